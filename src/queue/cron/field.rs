//! A field of a schedule: numbers, ranges, steps and lists of them, as a set.

use crate::base::{Error, Kind, Result};

/// Whether the number is meant.
pub(super) fn has(set: u64, number: u32) -> bool {
    set >> number & 1 == 1
}

/// A field: what it is called, what it may be, and the names of its numbers, from its least one on.
pub(super) struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

pub(super) const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
pub(super) const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
pub(super) const DAY: Field = Field { name: "day of the month", least: 1, most: 31, names: &[] };
pub(super) const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
pub(super) const WEEKDAY: Field =
    Field { name: "day of the week", least: 0, most: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Field {
    /// A bit for each number that the text means.
    pub(super) fn read(&self, text: &str) -> Result<u64> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64> {
        let refuse = |why: &str| {
            let message = format!("{}: {text:?} {why}", self.name);
            Error::new(Kind::Invalid, message)
        };
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0))),
            None => (text, None),
        };
        let step = match step {
            Some(None) => return Err(refuse("has no step of 1 or more")),
            Some(Some(step)) => Some(step),
            None => None,
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (Some(self.least), Some(self.most)),
            Some((first, last)) => (self.number(first), self.number(last)),
            // with a step, one number is where it begins
            None => (self.number(range), if step.is_some() { Some(self.most) } else { self.number(range) }),
        };
        let (Some(first), Some(last)) = (first, last) else {
            return Err(refuse(&format!("is not within {} to {}", self.least, self.most)));
        };
        if first > last {
            return Err(refuse("ends before it begins"));
        }
        let numbers = (first..=last).step_by(step.unwrap_or(1) as usize);
        Ok(numbers.fold(0, |set, number| set | 1 << number))
    }

    fn number(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(at) => self.least + at as u32,
            None if text.bytes().all(|letter| letter.is_ascii_digit()) => text.parse().ok()?,
            None => return None,
        };
        (self.least..=self.most).contains(&number).then_some(number)
    }
}
