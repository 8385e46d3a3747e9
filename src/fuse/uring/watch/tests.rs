use std::thread;
use std::time::Instant;

use super::super::handover::Handover;
use super::*;

/// Runs `body` in a thread that is looked after; None where that is not allowed.
fn looked_after<R: Send + 'static>(
    body: impl FnOnce(Handover, OwnPolicy, Arc<Watch>) -> R + Send + 'static,
) -> Option<R> {
    thread::spawn(|| {
        let own = OwnPolicy::look()?;
        let watch = Watch::new(own);
        let handover = Handover::new(own, &watch);
        let looks = Arc::clone(&watch);
        let watching = thread::spawn(move || looks.run());
        let result = body(handover, own, watch);
        watching.join().expect("it ends with the last thread");
        Some(result)
    })
    .join()
    .expect("the thread")
}

fn idle() -> bool {
    super::super::handover::policy() == libc::SCHED_IDLE
}

/// Whether it came true within five seconds.
fn soon(mut what: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if what() {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

#[test]
fn a_request_that_takes_long_gets_its_full_share() {
    looked_after(|mut handover, _, _| {
        handover.send(|| ());
        assert!(idle());
        handover.begin(false);
        assert!(soon(|| !idle()), "nobody looked");
        handover.end();
        // The next answer is sent as any other.
        assert!(handover.send(idle));
    });
}

#[test]
fn short_requests_are_left_alone() {
    looked_after(|mut handover, _, _| {
        let mut untouched = || {
            handover.send(|| ());
            let start = Instant::now();
            while start.elapsed() < 5 * LOOK_EVERY {
                handover.begin(false);
                handover.end();
            }
            idle()
        };
        // On a busy machine a request may be held up between its beginning and its end.
        assert!((0..50).any(|_| untouched()), "raised each time");
        // Nor is a thread that waits for a request.
        thread::sleep(3 * LOOK_EVERY);
        assert!(idle());
    });
}

#[test]
fn it_sleeps_when_nothing_is_asked_and_wakes_with_a_request() {
    looked_after(|mut handover, _, watch| {
        handover.send(|| ());
        assert!(soon(|| watch.rests.load(Ordering::SeqCst)), "no rest");
        handover.begin(false);
        assert!(soon(|| !idle()), "it slept on");
        handover.end();
    });
}
