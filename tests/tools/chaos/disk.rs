//! Storage that fails: a disk that can be filled, and an fsync that returns EIO on demand.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tokio::process::Command;

/// Free bytes on the disk when it is mounted and each time it is freed.
const FREE_BYTES: u64 = 96 << 20;

/// A small tmpfs, unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    pub dir: PathBuf,
}

impl Disk {
    /// Mounts a disk at `dir`; `None` without the permission to mount.
    #[must_use]
    pub fn mount(dir: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&dir).ok()?;
        let options = std::ffi::CString::new(format!("size={FREE_BYTES},mode=755")).ok()?;
        mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), options.as_c_str()).ok()?;
        Some(Self { dir })
    }

    /// Returns the path of the file that fills the disk.
    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Fills the disk to the last block.
    pub fn fill(&self) {
        let file = File::create(self.ballast()).unwrap();
        // A step that no longer fits is halved until not even one block is left.
        let (mut size, mut step) = (0, FREE_BYTES);
        while step >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), size, step) {
                Ok(()) => size += step,
                Err(_) => step /= 2,
            }
        }
    }

    /// Empties the disk of ballast and enlarges it, so that `FREE_BYTES` are free beside what servers wrote.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.ballast());
        let Ok(usage) = statvfs(&self.dir) else { return };
        let used_bytes = (usage.f_blocks - usage.f_bfree) * usage.f_frsize;
        let options = format!("size={}", used_bytes + FREE_BYTES);
        let _ = mount_remount(&self.dir, MountFlags::empty(), options.as_str());
    }

    /// Unmounts the disk, which deletes its files.
    pub fn unmount(&self) {
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// A library that makes fsync return EIO in processes that preload it, while its switch is on.
#[derive(Debug)]
pub struct FailingFsync {
    /// The switch: fsync fails while this file exists.
    switch: PathBuf,
    library: PathBuf,
}

impl FailingFsync {
    /// Compiles the library; `None` without a C compiler.
    pub async fn compile(dir: &Path) -> Option<Self> {
        let (source, library) = (dir.join("fsync_fails.c"), dir.join("fsync_fails.so"));
        std::fs::write(&source, include_str!("fsync_fails.c")).ok()?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let compiled = compiler.output().await.ok()?;
        compiled.status.success().then(|| Self { switch: dir.join("fsync-fails"), library })
    }

    /// Returns the environment variables of a process that preloads the library.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let value = |path: &Path| path.display().to_string();
        vec![("LD_PRELOAD".into(), value(&self.library)), ("CALLSCOPE_CHAOS_EIO".into(), value(&self.switch))]
    }

    pub fn set_failing(&self, is_failing: bool) {
        let _ = if is_failing { std::fs::write(&self.switch, b"") } else { std::fs::remove_file(&self.switch) };
    }
}
