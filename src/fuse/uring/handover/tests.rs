use std::thread;

use super::*;

#[test]
fn the_number_of_uptime_is_understood() {
    let seconds = |text: &str| idle_of(text.as_bytes()).map(|idle| idle.as_secs_f64());
    assert_eq!(seconds("48780.75 90120.25\n"), Some(90120.25));
    for broken in ["", "48780.75", "48780.75 x", "1.0 -2.0", "1.0 inf"] {
        assert_eq!(seconds(broken), None, "{broken}");
    }
    let idle = || Load::new().idle().expect("/proc/uptime");
    let before = idle();
    assert!(before > Duration::ZERO && idle() >= before);
}

#[test]
fn a_machine_is_full_when_no_processor_was_idle() {
    let ms = Duration::from_millis;
    let (start, mut load) = (Instant::now(), Load::new());
    // When, and how much idle time there was by then.
    for (at, idle, full) in [
        (0, 1000, false),
        (50, 1000, true),
        (100, 1010, false), // a fifth of a processor
        (150, 1010, true),
        (200, 1015, true),   // a tenth
        (1200, 1015, false), // too long ago
        (1250, 900, true),   // the kernel's sum may go back
    ] {
        load.note(start + ms(at), ms(idle));
        assert_eq!(load.full, full, "{at} ms");
    }
}

#[test]
fn a_thread_yields_from_its_first_answer_to_a_long_request() {
    thread::spawn(|| {
        let own = policy();
        let Some(allowed) = OwnPolicy::look() else {
            return; // not allowed here: nothing to see
        };
        let mut handover = Handover::new(allowed, &Watch::new(allowed));
        handover.begin(false);
        assert_eq!(policy(), own);
        handover.end();
        assert_eq!(handover.send(policy), libc::SCHED_IDLE);
        handover.begin(false);
        assert_eq!(policy(), libc::SCHED_IDLE);
        handover.end();
        handover.begin(true);
        assert_eq!(policy(), own);
        handover.end();
        assert_eq!(handover.send(policy), libc::SCHED_IDLE);
        // Where every processor is at work it doesn't yield.
        handover.load.last = Some((Instant::now(), Duration::ZERO));
        handover.load.full = true;
        assert_eq!(handover.send(policy), own);
    })
    .join()
    .expect("the thread");
}

#[test]
fn a_policy_that_someone_chose_is_left_alone() {
    let looked = thread::spawn(|| {
        change(0, libc::SCHED_IDLE).expect("anyone may become SCHED_IDLE");
        OwnPolicy::look().is_none()
    });
    assert!(looked.join().expect("the thread"));
}
