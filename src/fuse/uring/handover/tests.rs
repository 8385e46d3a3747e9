use std::thread;

use super::*;

fn policy() -> i32 {
    // SAFETY: the call takes a thread's number, 0 for this one, and touches no memory.
    unsafe { libc::sched_getscheduler(0) }
}

/// On a machine where no processor is idle, or none is busy.
fn with_load(busy: bool) -> Option<Handover> {
    let cpus = if busy { 0 } else { usize::MAX };
    Some(Handover::new(OwnPolicy::look()?, cpus))
}

#[test]
fn the_number_of_loadavg_is_understood() {
    assert_eq!(running(b"0.20 0.18 0.12 3/80 11206\n"), Some(3));
    for broken in ["", "0.20", "0.20 0.18 0.12 380 1", "0.20 0.18 0.12 x/80 1"] {
        assert_eq!(running(broken.as_bytes()), None, "{broken}");
    }
    let here = std::fs::read("/proc/loadavg").expect("/proc/loadavg");
    assert!(running(&here).is_some_and(|running| running >= 1));
}

#[test]
fn a_thread_yields_only_while_it_sends() {
    thread::spawn(|| {
        let own = policy();
        let Some(mut handover) = with_load(false) else {
            return; // not allowed here: nothing to see
        };
        for _ in 0..2 * LOOK_EVERY {
            assert_eq!(handover.send(policy), libc::SCHED_IDLE);
            assert_eq!(policy(), own);
        }
        let Some(mut handover) = with_load(true) else {
            return;
        };
        assert_eq!(handover.send(policy), own);
    })
    .join()
    .expect("the thread");
}

#[test]
fn a_policy_that_someone_chose_is_left_alone() {
    let looked = thread::spawn(|| {
        change(libc::SCHED_IDLE).expect("anyone may become SCHED_IDLE");
        OwnPolicy::look().is_none()
    });
    assert!(looked.join().expect("the thread"));
}
