//! Storage that fails: a disk that can be filled, and an fsync that returns EIO.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tokio::process::Command;

/// Free bytes on the disk while it is not being filled.
const FREE: u64 = 96 << 20;

/// A small tmpfs, unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    pub dir: PathBuf,
}

impl Disk {
    /// Mounts a disk; `None` without the permission to mount.
    #[must_use]
    pub fn mount(dir: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&dir).ok()?;
        let options = std::ffi::CString::new(format!("size={FREE},mode=755")).ok()?;
        mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), options.as_c_str()).ok()?;
        Some(Self { dir })
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Fills the disk to the last block.
    pub fn fill(&self) {
        let file = File::create(self.ballast()).unwrap();
        // The steps shrink, because servers write at the same time.
        let (mut size, mut step) = (0, FREE);
        while step >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), size, step) {
                Ok(()) => size += step,
                Err(_) => step /= 2,
            }
        }
    }

    /// Frees the disk and makes room for what comes.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.ballast());
        let Ok(now) = statvfs(&self.dir) else { return };
        let used = (now.f_blocks - now.f_bfree) * now.f_frsize;
        let options = format!("size={}", used + FREE);
        let _ = mount_remount(&self.dir, MountFlags::empty(), options.as_str());
    }
}

impl Disk {
    /// Unmounts the disk, and what it held is gone.
    pub fn unmount(&self) {
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Makes fsync fail in processes that it is preloaded into.
#[derive(Debug)]
pub struct Fsync {
    switch: PathBuf,
    library: PathBuf,
}

impl Fsync {
    /// Compiles the library; `None` without a C compiler.
    pub async fn compile(dir: &Path) -> Option<Self> {
        let (source, library) = (dir.join("fsync_fails.c"), dir.join("fsync_fails.so"));
        std::fs::write(&source, include_str!("fsync_fails.c")).ok()?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let compiled = compiler.output().await.ok()?;
        compiled.status.success().then(|| Self { switch: dir.join("fsync-fails"), library })
    }

    /// Returns the environment of a process in which fsync can fail.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![("LD_PRELOAD".into(), text(&self.library)), ("CALLSCOPE_CHAOS_EIO".into(), text(&self.switch))]
    }

    /// Makes fsync fail, or work again.
    pub fn fail(&self, fails: bool) {
        let _ = if fails { std::fs::write(&self.switch, b"") } else { std::fs::remove_file(&self.switch) };
    }
}
