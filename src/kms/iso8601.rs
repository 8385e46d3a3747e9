//! Times as texts: what `fmt::Display` of a [`Timestamp`] writes, and the other forms of ISO 8601
//! that clients send.

use super::clock::Timestamp;

/// Reads `YYYY-MM-DD`, `YYYY-MM-DDThh:mm[:ss[.fff]]` with `Z`, `+hh:mm` or nothing (UTC) behind
/// it, and the basic form `YYYYMMDDThhmmssZ`. Fractions beyond milliseconds are cut.
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if !text.is_ascii() {
        return None;
    }
    if bytes.len() == 16 && bytes[8] == b'T' && bytes[15] == b'Z' {
        let seconds = [(9, 11, 3600), (11, 13, 60), (13, 15, 1)];
        let time = seconds.iter().try_fold(0, |sum, &(from, to, unit)| {
            Some(sum + digits(text, from, to)? * unit)
        })?;
        let (hour, minute, second) = (
            digits(text, 9, 11)?,
            digits(text, 11, 13)?,
            digits(text, 13, 15)?,
        );
        in_day(hour, minute, second)?;
        let days = days(
            digits(text, 0, 4)?,
            digits(text, 4, 6)?,
            digits(text, 6, 8)?,
        )?;
        return Some(Timestamp::from_millis((days * 86_400 + time) * 1000));
    }
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let day = days(
        digits(text, 0, 4)?,
        digits(text, 5, 7)?,
        digits(text, 8, 10)?,
    )? * 86_400_000;
    if bytes.len() == 10 {
        return Some(Timestamp::from_millis(day));
    }
    let rest = text[10..].strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = split_offset(rest)?;
    Some(Timestamp::from_millis(day + clock_millis(clock)? - offset))
}

/// The time of day and the offset from UTC in milliseconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (clock, offset) = text.split_at(at);
    let hours_minutes = match offset.len() {
        6 if offset.as_bytes()[3] == b':' => (digits(offset, 1, 3)?, digits(offset, 4, 6)?),
        5 => (digits(offset, 1, 3)?, digits(offset, 3, 5)?),
        _ => return None,
    };
    let millis = in_day(hours_minutes.0, hours_minutes.1, 0)?;
    Some((
        clock,
        if offset.starts_with('-') {
            -millis
        } else {
            millis
        },
    ))
}

fn clock_millis(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 5 || bytes[2] != b':' {
        return None;
    }
    let (hour, minute) = (digits(text, 0, 2)?, digits(text, 3, 5)?);
    if bytes.len() == 5 {
        return in_day(hour, minute, 0);
    }
    if bytes.len() < 8 || bytes[5] != b':' {
        return None;
    }
    let whole = in_day(hour, minute, digits(text, 6, 8)?)?;
    if bytes.len() == 8 {
        return Some(whole);
    }
    let fraction = text[8..].strip_prefix('.')?;
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis: String = fraction.chars().chain("00".chars()).take(3).collect();
    Some(whole + millis.parse::<i64>().ok()?)
}

fn in_day(hour: i64, minute: i64, second: i64) -> Option<i64> {
    let valid = hour < 24 && minute < 60 && second < 60;
    valid.then_some(((hour * 60 + minute) * 60 + second) * 1000)
}

fn digits(text: &str, from: usize, to: usize) -> Option<i64> {
    let part = text.get(from..to)?;
    part.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| part.parse().ok())?
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests;
