//! Times as logs have them, read and written.

use std::time::{Duration, SystemTime};

/// A moment in nanoseconds since 1970; from 1970 to 9999.
pub(super) type Nanos = u64;

const SECOND: u64 = 1_000_000_000;

/// Days since 1970 of a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1970..=2500).contains(&year) || !(1..=longest).contains(&day) {
        return None; // nanoseconds in 64 bits end in 2554
    }
    // years that begin in March have their leap day at the end
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (shifted / 400, shifted % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// Reads what a moment is made of, piece by piece.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// Exactly so many digits.
    fn digits(&mut self, count: usize) -> Option<u64> {
        let (text, rest) = self.0.split_at_checked(count)?;
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
        self.0 = rest;
        Some(number)
    }

    fn one_of(&mut self, letters: &[char]) -> Option<char> {
        let letter = self.0.chars().next().filter(|letter| letters.contains(letter))?;
        self.0 = self.0.get(letter.len_utf8()..)?;
        Some(letter)
    }

    fn month(&mut self) -> Option<u64> {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (text, rest) = self.0.split_at_checked(3)?;
        let at = MONTHS.iter().position(|month| *month == text)?;
        self.0 = rest;
        Some(at as u64 + 1)
    }

    /// `HH:MM:SS`, a leap second among them.
    fn clock(&mut self) -> Option<u64> {
        let hour = self.digits(2).filter(|hour| *hour < 24)?;
        self.one_of(&[':'])?;
        let minute = self.digits(2).filter(|minute| *minute < 60)?;
        self.one_of(&[':'])?;
        let second = self.digits(2).filter(|second| *second <= 60)?;
        Some(hour * 3600 + minute * 60 + second)
    }

    /// `.123456`, as nanoseconds; nothing is none of them.
    fn fraction(&mut self) -> Option<u64> {
        if self.one_of(&['.', ',']).is_none() {
            return Some(0);
        }
        let end = self.0.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        let nanos = text.bytes().chain(std::iter::repeat(b'0')).take(9);
        (!text.is_empty()).then(|| nanos.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    }

    /// `Z`, `+02:00`, `-0700`: seconds east of Greenwich.
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.one_of(&['Z', 'z', '+', '-'])? {
            '+' => 1,
            '-' => -1,
            _ => return Some(0),
        };
        let hours = self.digits(2).filter(|hours| *hours < 24)?;
        self.one_of(&[':']);
        let minutes = self.digits(2).filter(|minutes| *minutes < 60)?;
        Some(sign * (hours * 3600 + minutes * 60) as i64)
    }
}

fn moment(days: u64, clock: u64, fraction: u64, zone: i64) -> Option<Nanos> {
    let seconds = (days * 86_400 + clock).checked_add_signed(-zone)?;
    seconds.checked_mul(SECOND)?.checked_add(fraction)
}

/// RFC 3339, and what is near to it: a blank for the `T`, a comma for the point, no zone (UTC then). The rest of the text
/// comes along.
pub(super) fn rfc3339(text: &str) -> Option<(Nanos, &str)> {
    let mut reader = Reader(text);
    let year = reader.digits(4)?;
    reader.one_of(&['-', '/'])?;
    let month = reader.digits(2)?;
    reader.one_of(&['-', '/'])?;
    let day = reader.digits(2)?;
    reader.one_of(&['T', 't', ' '])?;
    let clock = reader.clock()?;
    let fraction = reader.fraction()?;
    let zone = reader.zone().unwrap_or(0);
    Some((moment(days(year, month, day)?, clock, fraction, zone)?, reader.0))
}

/// `10/Oct/2000:13:55:36 -0700`, as access logs have it.
pub(super) fn access(text: &str) -> Option<Nanos> {
    let mut reader = Reader(text);
    let day = reader.digits(2)?;
    reader.one_of(&['/'])?;
    let month = reader.month()?;
    reader.one_of(&['/'])?;
    let year = reader.digits(4)?;
    reader.one_of(&[':'])?;
    let clock = reader.clock()?;
    reader.one_of(&[' '])?;
    let zone = reader.zone()?;
    if reader.0.is_empty() { moment(days(year, month, day)?, clock, 0, zone) } else { None }
}

/// `Oct 11 22:14:15`, as old syslog has it: the year is that in which it lies nearest to now, and not more than a day ahead.
pub(super) fn syslog(text: &str, now: Nanos) -> Option<(Nanos, &str)> {
    let mut reader = Reader(text);
    let month = reader.month()?;
    reader.one_of(&[' '])?;
    let day = match reader.one_of(&[' ']) {
        Some(_) => reader.digits(1)?,
        None => reader.digits(2)?,
    };
    reader.one_of(&[' '])?;
    let clock = reader.clock()?;
    let (year, ..) = civil(now / SECOND / 86_400);
    let then = [year + 1, year, year - 1].into_iter().find_map(|year| {
        let then = moment(days(year, month, day)?, clock, 0, 0)?;
        (then <= now.saturating_add(86_400 * SECOND)).then_some(then)
    });
    Some((then?, reader.0))
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, by their size: each is of this century.
pub(super) fn epoch(text: &str) -> Option<Nanos> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || !(9..=19).contains(&whole.len()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let unit = match whole {
        whole if whole < 100_000_000_000 => SECOND,
        whole if whole < 100_000_000_000_000 => 1_000_000,
        whole if whole < 100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    let mut nanos = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(u64::from(digit - b'0') * place)?;
    }
    Some(nanos)
}

pub(super) fn of(time: SystemTime) -> Nanos {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Appends RFC 3339 in UTC, to the millisecond, or as much finer as the moment is.
pub(super) fn write(out: &mut String, nanos: Nanos) {
    let (seconds, fraction) = (nanos / SECOND, nanos % SECOND);
    let (year, month, day) = civil(seconds / 86_400);
    let clock = seconds % 86_400;
    let mut put = |mut value: u64, digits: usize, end: char| {
        let from = out.len();
        out.extend(std::iter::repeat_n('0', digits));
        let mut text = [b'0'; 9];
        for digit in text.iter_mut().take(digits).rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
        out.truncate(from);
        out.extend(text.iter().take(digits).map(|digit| char::from(*digit)));
        out.push(end);
    };
    put(year, 4, '-');
    put(month, 2, '-');
    put(day, 2, 'T');
    put(clock / 3600, 2, ':');
    put(clock / 60 % 60, 2, ':');
    put(clock % 60, 2, '.');
    match fraction {
        _ if fraction.is_multiple_of(1_000_000) => put(fraction / 1_000_000, 3, 'Z'),
        _ if fraction.is_multiple_of(1_000) => put(fraction / 1_000, 6, 'Z'),
        _ => put(fraction, 9, 'Z'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(nanos: Nanos) -> String {
        let mut out = String::new();
        write(&mut out, nanos);
        out
    }

    #[test]
    fn there_and_back_on_every_day() {
        for day in 0..190_000 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), Some(day));
            let text = shown(day * 86_400 * SECOND + 1);
            assert_eq!(rfc3339(&text), Some((day * 86_400 * SECOND + 1, "")), "{text}");
        }
        assert_eq!(
            (days(1900, 1, 1), days(2023, 2, 29), days(2024, 2, 29), days(2024, 13, 1)),
            (None, None, Some(19_782), None)
        );
    }

    #[test]
    fn forms() {
        let read = |text| rfc3339(text).map(|(nanos, rest)| format!("{}|{rest}", shown(nanos))).unwrap_or_default();
        assert_eq!(read("2024-02-29T12:00:00+02:00 up"), "2024-02-29T10:00:00.000Z| up");
        assert_eq!(read("2024/02/29 12:00:00,123456 x"), "2024-02-29T12:00:00.123456Z| x");
        assert_eq!(read("2016-12-31T23:59:60Z"), "2017-01-01T00:00:00.000Z|");
        for wrong in [
            "2024-02-30T00:00:00Z",
            "2024-2-1T00:00:00Z",
            "2024-02-01",
            "2024-02-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "2024-02-01T00:00:00.Z",
            "é024-02-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(wrong), None, "{wrong}");
        }
        assert_eq!(access("10/Oct/2000:13:55:36 -0700").map(shown).as_deref(), Some("2000-10-10T20:55:36.000Z"));
        assert_eq!(access("10/Oct/2000:13:55:36"), None);
        for (text, told) in [
            ("1700000000", "2023-11-14T22:13:20.000Z"),
            ("1700000000.25", "2023-11-14T22:13:20.250Z"),
            ("1700000000123", "2023-11-14T22:13:20.123Z"),
            ("1700000000123456", "2023-11-14T22:13:20.123456Z"),
            ("1700000000123456789", "2023-11-14T22:13:20.123456789Z"),
        ] {
            assert_eq!(epoch(text).map(shown).as_deref(), Some(told));
        }
        assert_eq!((epoch("17"), epoch("99999999999999999999"), epoch("1e9"), epoch("")), (None, None, None, None));
    }

    #[test]
    fn a_year_that_is_not_told_is_the_nearest() {
        let at = |text| rfc3339(text).unwrap().0;
        let read = |text, now| syslog(text, at(now)).map(|(nanos, _)| shown(nanos)).unwrap_or_default();
        assert_eq!(read("Dec 31 23:59:59 x", "2024-01-01T00:00:05Z"), "2023-12-31T23:59:59.000Z");
        assert_eq!(read("Jan  1 00:00:01 x", "2023-12-31T23:59:58Z"), "2024-01-01T00:00:01.000Z");
        assert_eq!(read("Feb 29 00:00:01 x", "2025-03-01T00:00:00Z"), "2024-02-29T00:00:01.000Z");
        assert_eq!(read("Jan 1 00:00:01", "2024-02-01T00:00:00Z"), "", "two columns for the day");
    }
}
