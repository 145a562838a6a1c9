//! Days since 1970 as dates: the calendar by arithmetic (Hinnant's `civil_from_days`).

/// A date in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    /// 1 to 12.
    pub(super) month: u32,
    /// 1 to 31.
    pub(super) day: u32,
    /// 0 to 6, from Sunday.
    pub(super) weekday: u32,
}

/// Days of 400 years, after which the calendar comes again.
const ERA: i64 = 146_097;
/// From the 1st of March of the year 0 to 1970: years that begin in March have their leap day at their end.
const SHIFT: i64 = 719_468;

impl Civil {
    /// The date of the day that is so many after the 1st of January 1970.
    pub(super) fn of_day(days: i64) -> Civil {
        let shifted = days + SHIFT;
        let day_of_era = shifted.rem_euclid(ERA);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Civil {
            month: month as u32,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u32,
            weekday: (days + 4).rem_euclid(7) as u32, // 1970 began on a Thursday
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_hundred_years_of_days_follow_each_other() {
        assert_eq!(Civil::of_day(0), Civil { month: 1, day: 1, weekday: 4 });
        assert_eq!(Civil::of_day(19_782), Civil { month: 2, day: 29, weekday: 4 }, "in 2024");
        let (mut year, mut before) = (1970, Civil::of_day(0));
        for days in 1..292_194 {
            let date = Civil::of_day(days);
            assert_eq!(date.weekday, (before.weekday + 1) % 7);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match before.month {
                2 => 28 + u32::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let expected = match (before.month, before.day == last) {
                (12, true) => (1, 1),
                (month, true) => (month + 1, 1),
                (month, false) => (month, before.day + 1),
            };
            assert_eq!((date.month, date.day), expected, "{days}");
            year += i32::from(expected == (1, 1));
            before = date;
        }
        assert_eq!(year, 2769);
    }
}
