use std::cell::RefCell;

use super::*;

/// What was done to a file's time, in order.
#[derive(Default)]
struct File {
    stamps: Stamps,
    did: RefCell<Vec<&'static str>>,
}

impl File {
    #[allow(clippy::unnecessary_wraps)] // what the closures that it stands in for give
    fn did(&self, what: &'static str) -> Result<(), ()> {
        self.did.borrow_mut().push(what);
        Ok(())
    }

    fn touch(&self, tick: u64) {
        self.stamps.touch(tick, || self.did("now")).unwrap();
    }

    /// Writes home, with `meanwhile` in the middle.
    fn goes_home(&self, meanwhile: impl FnOnce()) {
        let write = || {
            meanwhile();
            Ok(())
        };
        let restore = |was: Option<&()>| self.did(was.map_or("now", |()| "as before"));
        self.stamps.kept(write, restore).unwrap();
    }

    fn done(&self) -> Vec<&'static str> {
        self.did.take()
    }
}

#[test]
fn a_user_sets_it_once_a_tick() {
    let file = File::default();
    for tick in [5, 5, 6, 6, 6, 9] {
        file.touch(tick);
    }
    assert_eq!(file.done(), ["now"; 3]);
}

#[test]
fn what_goes_home_leaves_it_alone_unless_a_user_wrote() {
    let file = File::default();
    file.goes_home(|| {});
    assert_eq!(file.done(), ["as before"]);
    file.goes_home(|| {
        file.touch(5);
        file.touch(5);
        assert!(file.did.borrow().is_empty(), "the user waits for nobody");
    });
    assert_eq!(file.done(), ["now"]);
    file.goes_home(|| {});
    assert_eq!(file.done(), ["as before"]);
}

#[test]
fn a_time_that_is_set_stays() {
    let file = File::default();
    file.touch(5);
    let set = || file.stamps.set(|| file.did("set"), || file.did("now"));
    set().unwrap();
    assert_eq!(file.done(), ["now", "set"]);
    file.goes_home(|| {});
    assert_eq!(file.done(), ["as before"]);
    // The next write is later, though it is the same tick.
    file.touch(5);
    assert_eq!(file.done(), ["now"]);
}

#[test]
fn nobody_waits_for_ever_and_nothing_stays_due() {
    let stamps = Stamps::default();
    let set = AtomicU64::new(0);
    let now = || {
        set.fetch_add(1, Ordering::Relaxed);
        Ok::<_, ()>(())
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for _ in 0..20_000 {
                stamps.kept(|| Ok(()), |_: Option<&()>| now()).unwrap();
            }
        });
        for tick in 1..20_000 {
            stamps.touch(tick, now).unwrap();
        }
    });
    assert!(!stamps.due.load(Ordering::SeqCst));
}
