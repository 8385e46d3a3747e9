//! A panic in an operation costs that operation, not the mount.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use tracing::error;

use super::errno::Errno;

thread_local! {
    /// This thread is inside [`contain`].
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
    /// Where the panic that is being contained began.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs one operation; a panic inside becomes EIO and a log line.
pub(super) fn contain<T>(
    operation: &'static str,
    body: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let outer = CONTAINED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    CONTAINED.set(outer);
    result.unwrap_or_else(|payload| {
        let place = PLACE.take();
        error!(
            operation,
            place = place.as_deref().unwrap_or("?"),
            "panic in a request, answered with an I/O error: {}",
            message(&*payload)
        );
        Err(Errno::IO)
    })
}

/// Notes where panics begin, and reports those that no [`contain`] will see.
///
/// `fuser` takes no notice of a worker thread that panics outside an operation (in its own code):
/// the mount goes on with one thread less, or hangs when that was the last.
pub(super) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CONTAINED.get() {
                PLACE.set(info.location().map(ToString::to_string));
            } else {
                report_worker(info);
                before(info);
            }
        }));
    });
}

fn report_worker(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let ours = |name: &&str| name.starts_with("fuser-") || name.starts_with("fuse-");
    let Some(name) = thread.name().filter(ours) else {
        return;
    };
    let place = info.location().map(ToString::to_string);
    error!(
        thread = name,
        place = place.as_deref().unwrap_or("?"),
        "a thread that serves a mount ended by a panic: {}",
        message(info.payload())
    );
}

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "(no message)"
    }
}
