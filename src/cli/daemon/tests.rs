use super::super::exit;
use super::*;

fn child(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

#[test]
fn it_returns_when_the_daemon_serves_and_the_daemon_stays() {
    let started = std::time::Instant::now();
    assert_eq!(
        wait_for(child("echo ready; exec sleep 3 </dev/null >/dev/null 2>&1")).unwrap(),
        Exit::Ok
    );
    assert!(
        started.elapsed() < std::time::Duration::from_secs(2),
        "it waited for the end"
    );
}

#[test]
fn the_exit_of_a_failed_start_is_handed_on() {
    assert_eq!(wait_for(child("exit 4")).unwrap(), Exit::WrongPassphrase);
    assert_eq!(wait_for(child("exit 7")).unwrap(), Exit::Busy);
    assert_eq!(wait_for(child("exit 101")).unwrap(), Exit::Failure);
    assert_eq!(wait_for(child("echo rea; exit 2")).unwrap(), Exit::Usage);
}

#[test]
fn a_silent_end_is_an_error() {
    let silent = wait_for(child("exit 0")).unwrap_err();
    assert_eq!(exit::of(&silent), Exit::Failure);
    let killed = wait_for(child("kill -KILL $$")).unwrap_err();
    assert!(killed.to_string().contains("signal 9"), "{killed}");
    let missing = wait_for(Command::new("/no/such/program")).unwrap_err();
    assert!(format!("{missing:#}").contains("starting the daemon"));
}
