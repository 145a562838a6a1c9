//! When a schedule ticks: five fields, as cron has them, or a fixed beat. Pure.

use super::{
    civil::Civil,
    field::{DAY, HOUR, MINUTE, MONTH, WEEKDAY, has},
};
use crate::base::{Error, Kind, Result};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// When something is to be done, again and again: by the five fields of cron, in UTC, or at a fixed beat.
///
/// ```text
/// minute  hour  day of the month  month  day of the week
/// 0-59    0-23  1-31              1-12   0-7 (0 and 7 are Sunday)
/// ```
///
/// A field is `*`, or numbers, ranges (`1-5`), steps (`*/15`, `8-18/2`) and lists of these; months and days of the week also
/// by their first three letters. Where both days are given, one of them is enough, as in Vixie's cron. `@hourly`, `@daily`
/// (`@midnight`), `@weekly`, `@monthly` and `@yearly` (`@annually`) are short for the usual ones.
///
/// Not there: seconds, years, time zones (it is UTC, in which no hour is missing and none comes twice), and the letters `L`,
/// `W`, `#` and `?` of other dialects.
///
/// ```
/// use seedpod::queue::Schedule;
/// use std::time::{Duration, SystemTime};
/// let workdays: Schedule = "30 2 * * mon-fri".parse()?;
/// let friday = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400) + Duration::from_secs(3 * 3600); // 1970-01-02, 03:00
/// let monday = SystemTime::UNIX_EPOCH + Duration::from_secs(4 * 86_400) + Duration::from_secs(9000); // 1970-01-05, 02:30
/// assert_eq!(workdays.after(friday), Some(monday));
/// assert!("61 * * * *".parse::<Schedule>().unwrap_err().to_string().contains("minute"));
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Ticks);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ticks {
    /// As they were written, and what they mean.
    Fields(Box<str>, Fields),
    Every(Duration),
}

/// A bit for each number that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day of the month is enough, or a day of the week: where both are given.
    either: bool,
}

/// So many days are looked at for the next tick: the 29th of February may be eight years away, when a century is no leap
/// year.
const DAYS: i64 = 366 * 9;

impl Schedule {
    /// At every whole multiple of this since 1970, so that all processes have the same ticks.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for less than a second.
    pub fn every(beat: Duration) -> Result<Schedule> {
        if beat < Duration::from_secs(1) {
            return Err(Error::new(Kind::Invalid, format!("a beat of {beat:?}: it must be a second or more")));
        }
        Ok(Schedule(Ticks::Every(beat)))
    }

    /// The first tick after this time; none where there is none, or the clock cannot tell it.
    pub fn after(&self, time: SystemTime) -> Option<SystemTime> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match &self.0 {
            Ticks::Every(beat) => {
                let beats = since.as_nanos() / beat.as_nanos() + 1;
                let nanos = beats.checked_mul(beat.as_nanos())?;
                let next = Duration::new(u64::try_from(nanos / 1_000_000_000).ok()?, (nanos % 1_000_000_000) as u32);
                SystemTime::UNIX_EPOCH.checked_add(next)
            }
            Ticks::Fields(_, fields) => {
                let minutes = i64::try_from(since.as_secs() / 60).ok()?.checked_add(1)?;
                let next = u64::try_from(fields.first_from(minutes)?).ok()?.checked_mul(60)?;
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(next))
            }
        }
    }

    /// The last tick up to this time; none where there is none since 1970.
    pub(super) fn until(&self, time: SystemTime) -> Option<SystemTime> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        match &self.0 {
            Ticks::Every(beat) => {
                let over = u64::try_from(since.as_nanos() % beat.as_nanos()).ok()?;
                time.checked_sub(Duration::from_nanos(over))
            }
            Ticks::Fields(_, fields) => {
                let minutes = fields.last_until(i64::try_from(since.as_secs() / 60).ok()?)?;
                let seconds = u64::try_from(minutes).ok()?.checked_mul(60)?;
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
            }
        }
    }
}

impl Fields {
    /// The first minute since 1970 that is meant, from this one on.
    fn first_from(&self, minute: i64) -> Option<i64> {
        let (today, first) = (minute.div_euclid(1440), minute.rem_euclid(1440));
        for day in today..today.checked_add(DAYS)? {
            if !self.has_day(&Civil::of_day(day)) {
                continue;
            }
            let from = if day == today { first } else { 0 };
            if let Some(at) = (from..1440).find(|at| self.has_time(*at)) {
                return day.checked_mul(1440)?.checked_add(at);
            }
        }
        None
    }

    /// The last minute since 1970 that is meant, up to this one.
    fn last_until(&self, minute: i64) -> Option<i64> {
        let (today, last) = (minute.div_euclid(1440), minute.rem_euclid(1440));
        for day in (today.checked_sub(DAYS)?.max(0)..=today).rev() {
            if !self.has_day(&Civil::of_day(day)) {
                continue;
            }
            let until = if day == today { last } else { 1439 };
            if let Some(at) = (0..=until).rev().find(|at| self.has_time(*at)) {
                return day.checked_mul(1440)?.checked_add(at);
            }
        }
        None
    }

    fn has_time(&self, minute: i64) -> bool {
        has(self.hours, (minute / 60) as u32) && has(self.minutes, (minute % 60) as u32)
    }

    fn has_day(&self, date: &Civil) -> bool {
        let (day, weekday) = (has(self.days, date.day), has(self.weekdays, date.weekday));
        has(self.months, date.month) && if self.either { day || weekday } else { day && weekday }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Schedule> {
        let place = |error: Error| error.at(format!("schedule {text:?}"));
        let fields = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            fields => fields,
        };
        let parts: Vec<&str> = fields.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            let message = format!("it has {} fields, not minute, hour, day, month and day of the week", parts.len());
            return Err(place(Error::new(Kind::Invalid, message)));
        };
        let read = || {
            let mut weekdays = WEEKDAY.read(weekday)?;
            weekdays |= weekdays >> 7 & 1; // 7 is Sunday too
            Ok(Fields {
                minutes: MINUTE.read(minute)?,
                hours: HOUR.read(hour)?,
                days: DAY.read(day)?,
                months: MONTH.read(month)?,
                weekdays,
                either: !day.starts_with('*') && !weekday.starts_with('*'),
            })
        };
        let fields = read().map_err(place)?;
        if fields.first_from(0).is_none() {
            return Err(place(Error::new(Kind::Invalid, "it never comes: no month has such a day")));
        }
        Ok(Schedule(Ticks::Fields(text.trim().into(), fields)))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ticks::Every(beat) => write!(f, "every {beat:?}"),
            Ticks::Fields(text, _) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    /// `2030-01-31 09:05` as a time.
    fn at(text: &str) -> SystemTime {
        let numbers: Vec<i64> = text.split(['-', ' ', ':']).map(|part| part.parse().unwrap()).collect();
        let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let first: i64 = (1970..numbers[0]).map(|year| 365 + i64::from(leap(year))).sum();
        let is_day = |day: &i64| {
            let date = Civil::of_day(*day);
            (i64::from(date.month), i64::from(date.day)) == (numbers[1], numbers[2])
        };
        let days = (first..first + 366).find(is_day).unwrap();
        let minutes = days * 1440 + numbers[3] * 60 + numbers[4];
        SystemTime::UNIX_EPOCH + Duration::from_secs(minutes as u64 * 60)
    }

    fn next(schedule: &str, from: &str) -> SystemTime {
        schedule.parse::<Schedule>().unwrap().after(at(from)).unwrap()
    }

    #[test]
    fn the_next_tick() {
        for (schedule, from, to) in [
            ("* * * * *", "2030-01-31 23:59", "2030-02-01 00:00"),
            ("*/15 * * * *", "2030-01-31 09:05", "2030-01-31 09:15"),
            ("0 8-18/5 * * *", "2030-01-31 13:00", "2030-01-31 18:00"),
            ("5/20 3 * * *", "2030-01-31 03:05", "2030-01-31 03:25"),
            ("30 2 * * Mon-Fri", "2030-02-01 03:00", "2030-02-04 02:30"), // from a Friday
            ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"),       // 2100 is no leap year
            ("0 0 13 * 5", "2030-09-01 00:00", "2030-09-06 00:00"),       // either is enough
            ("0 0 */10 * 1", "2030-01-02 00:00", "2030-01-21 00:00"),     // a star with a step asks for both
            ("0 12 1 jan,Jul *", "2030-01-01 12:00", "2030-07-01 12:00"),
            ("0 0 * * 7", "2030-01-31 00:00", "2030-02-03 00:00"),
            ("@monthly", "2030-12-31 23:59", "2031-01-01 00:00"),
        ] {
            assert_eq!(next(schedule, from), at(to), "{schedule} from {from}");
        }
        let beat = Schedule::every(Duration::from_secs(90)).unwrap();
        let told = [beat.to_string(), " 0  12 * * * ".parse::<Schedule>().unwrap().to_string()];
        assert_eq!(told, ["every 90s", "0  12 * * *"]);
        assert_eq!(beat.after(at("1970-01-01 00:02")), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(180)));
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (bad, why) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("* * * * * *", "6 fields"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of the month"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "day of the week"),
            ("5-1 * * * *", "ends before it begins"),
            ("*/0 * * * *", "step"),
            ("*/x * * * *", "step"),
            ("+5 * * * *", "minute"),
            ("1,,2 * * * *", "minute"),
            ("0 0 30 2 *", "never comes"),
            ("0 0 L * *", "day of the month"),
            ("@reboot", "1 fields"),
        ] {
            let error = bad.parse::<Schedule>().unwrap_err();
            assert!(error.kind() == Kind::Invalid && error.to_string().contains(why), "{bad:?}: {error}");
        }
        assert!(Schedule::every(Duration::from_millis(999)).is_err());
    }

    #[test]
    fn every_tick_is_meant_and_none_between_is_left_out() {
        let mut rng = Seed::new(5).rng();
        for _ in 0..300 {
            let number = |rng: &mut crate::base::Rng, least: u64, most: u64| match rng.below(4) {
                0 => "*".to_string(),
                1 => format!("*/{}", rng.range(1..most)),
                2 => rng.range(least..most).to_string(),
                _ => format!("{}-{}", least, rng.range(least..most)),
            };
            let text = [(0, 60), (0, 24), (1, 29), (1, 13), (0, 8)].map(|(least, most)| number(&mut rng, least, most));
            let schedule: Schedule = text.join(" ").parse().unwrap();
            let Schedule(Ticks::Fields(_, fields)) = &schedule else { panic!("it has fields") };
            let meant = |minute: i64| {
                let date = Civil::of_day(minute.div_euclid(1440));
                fields.has_time(minute.rem_euclid(1440)) && fields.has_day(&date)
            };
            let mut time = at("2030-01-01 00:00") + Duration::from_secs(rng.below(400 * 86_400));
            for _ in 0..3 {
                let found = schedule.after(time).unwrap();
                let minutes =
                    |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64 / 60;
                assert!(meant(minutes(found)), "{text:?}");
                let between = minutes(time) + 1..minutes(found).min(minutes(time) + 5000);
                assert!(between.into_iter().all(|minute| !meant(minute)), "{text:?}");
                assert_eq!(schedule.until(found), Some(found), "{text:?}");
                let before = found - Duration::from_secs(1);
                assert!(schedule.until(before).unwrap() <= time, "{text:?}: none between");
                time = found;
            }
        }
    }
}
