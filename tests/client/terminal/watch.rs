//! `calls watch` while a server dies.

use super::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_began_while_the_server_was_away_are_shown_later() {
    let mut scene = Scene::new().await;
    scene.turn("EL_before_1", "user", "hello").await;
    let terminal = scene.terminal((100, 24), &["calls", "watch"], &[]);
    terminal.until_text("EL_before_1");
    scene.kill().await;
    terminal.until_text("trying again");
    scene.start().await;
    scene.turn("EL_after_1", "user", "hello").await;
    scene.turn("EL_before_1", "agent", "still here").await;
    terminal.until_text("connected again");
    terminal.until_text("EL_after_1");
    // The list that showed the first call may have been fetched before the turn of the other call.
    terminal.until_text("  turns");
    let screen = terminal.screen();
    let lines = |call: &str| -> Vec<&str> {
        screen.lines().filter(|line| line.contains(call)).map(|line| line.split_whitespace().nth(1).unwrap()).collect()
    };
    assert_eq!(lines("EL_before_1"), ["live", "turns"], "{screen}");
    assert_eq!(lines("EL_after_1"), ["began"], "{screen}");
}
