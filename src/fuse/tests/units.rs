//! Parts that need no mount.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::fuse::Errno;
use crate::fuse::convert::{time_from_request, time_to_reply};
use crate::fuse::panics::{self, contain};
use crate::volume::{KmsError, Time, VolumeError};

/// `fuser::time::system_time_from_time`, as it is in 0.18 (in a build without overflow checks).
fn as_fuser_decodes(secs: i64, nanos: u32) -> SystemTime {
    if secs >= 0 {
        UNIX_EPOCH + Duration::new(secs.cast_unsigned(), nanos)
    } else {
        UNIX_EPOCH - Duration::new(secs.wrapping_neg().cast_unsigned(), nanos)
    }
}

/// `fuser::time::time_from_system_time`, as it is in 0.18.
fn as_fuser_encodes(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (
            i64::try_from(after.as_secs()).unwrap(),
            after.subsec_nanos(),
        ),
        Err(before) => {
            let (secs, nanos) = (
                before.duration().as_secs(),
                before.duration().subsec_nanos(),
            );
            match nanos {
                0 => (0i64.checked_sub_unsigned(secs).unwrap(), 0),
                _ => (-i64::try_from(secs).unwrap() - 1, 1_000_000_000 - nanos),
            }
        }
    }
}

#[test]
fn every_time_survives_both_ways_through_fuser() {
    let all_secs = [
        i64::MIN + 1,
        -2_000_000_000,
        -2,
        -1,
        0,
        1,
        1_700_000_000,
        i64::MAX,
    ];
    for secs in all_secs {
        for nanos in [0, 1, 250_000_000, 999_999_999] {
            let time = Time { secs, nanos };
            assert_eq!(time_from_request(as_fuser_decodes(secs, nanos)), time);
            assert_eq!(as_fuser_encodes(time_to_reply(time)), (secs, nanos));
        }
    }
    let first = Time {
        secs: i64::MIN,
        nanos: 0,
    };
    assert_eq!(time_from_request(as_fuser_decodes(i64::MIN, 0)), first);
    assert_eq!(as_fuser_encodes(time_to_reply(first)), (i64::MIN, 0));
    // A time that no filesystem should have gives no panic.
    let _ = time_to_reply(Time {
        secs: i64::MAX,
        nanos: u32::MAX,
    });
}

#[test]
fn errors_below_arrive_as_themselves() {
    for code in [
        libc::ENOSPC,
        libc::EDQUOT,
        libc::EIO,
        libc::EROFS,
        libc::EPERM,
        libc::ELOOP,
    ] {
        let error = VolumeError::Io(io::Error::from_raw_os_error(code));
        assert_eq!(Errno::from(error).code(), code);
    }
}

#[test]
fn what_the_kernel_would_not_take_becomes_something_it_does() {
    for code in [-5, 0, 512, 513, 100_000] {
        let error = VolumeError::Io(io::Error::from_raw_os_error(code));
        assert_eq!(Errno::from(error), Errno::IO);
    }
    assert_eq!(
        Errno::from(VolumeError::Io(io::Error::other("no number"))),
        Errno::IO
    );
    let never_again = VolumeError::Io(io::Error::from_raw_os_error(libc::ENOSYS));
    assert_eq!(Errno::from(never_again), Errno::OPNOTSUPP);
}

#[test]
fn the_key_manager_s_answers_have_numbers_of_their_own() {
    let code = |error: KmsError| Errno::from(VolumeError::Key(error)).code();
    assert_eq!(
        code(KmsError::Disabled { arn: String::new() }),
        libc::EKEYREVOKED
    );
    assert_eq!(code(KmsError::NotFound(String::new())), libc::ENOKEY);
    assert_eq!(code(KmsError::AccessDenied(String::new())), libc::EACCES);
    assert_eq!(code(KmsError::InvalidCiphertext), libc::EIO);
    let damaged = VolumeError::Damaged {
        what: String::new(),
        why: String::new(),
    };
    assert_eq!(Errno::from(damaged), Errno::IO);
}

#[test]
fn panics_are_contained() {
    panics::watch();
    panics::watch();
    assert_eq!(contain("test", || Ok(5)), Ok(5));
    assert_eq!(contain::<()>("test", || panic!("text")), Err(Errno::IO));
    assert_eq!(
        contain::<()>("test", || panic!("{}", "formatted")),
        Err(Errno::IO)
    );
    assert_eq!(
        contain::<()>("test", || std::panic::panic_any(7)),
        Err(Errno::IO)
    );
    let inner = contain("outer", || {
        assert_eq!(contain::<()>("inner", || panic!("text")), Err(Errno::IO));
        panic!("after the inner one")
    });
    assert_eq!(inner, Err::<(), _>(Errno::IO));
}
