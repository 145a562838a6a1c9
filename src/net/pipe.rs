//! One direction of a stream in memory, as a pure state machine: no clock, no lock, no waker.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
};
use tokio::{io::ReadBuf, time::Instant};

/// A buffer that grew beyond this is given back when it runs empty, so that an idle connection is small.
const KEEP: usize = 512;

/// Bytes on their way from one writer to one reader, never more than the limit.
#[derive(Default)]
pub(super) struct Pipe {
    buffer: VecDeque<u8>,
    /// The most that was in it since it was last empty: what to allocate at once next time.
    peak: usize,
    /// Pieces still under way: when each arrives, how long it is. Empty on a network without latency.
    flight: VecDeque<(Instant, usize)>,
    in_flight: usize,
    state: State,
    deaf: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The writer has ended in order; what is in the buffer still arrives.
    Ended,
    /// Cut: nothing arrives any more.
    Reset,
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes were copied.
    Bytes,
    /// The end.
    End,
    /// Nothing yet; the next piece arrives then, if one is under way.
    Wait(Option<Instant>),
}

impl Pipe {
    /// Whether the clock must be read before a read.
    pub(super) fn is_delayed(&self) -> bool {
        !self.flight.is_empty()
    }

    /// Whether nothing is to be had, nor under way, nor over.
    pub(super) fn is_quiet(&self) -> bool {
        self.buffer.is_empty() && self.flight.is_empty() && self.state == State::Open
    }

    /// Whether it has neither ended nor been cut.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether a write of this would take any of it.
    pub(super) fn takes(&self, limit: usize, from: &[IoSlice<'_>]) -> bool {
        self.is_open() && !self.deaf && self.buffer.len() < limit && from.iter().any(|part| !part.is_empty())
    }

    /// Lets arrive what has arrived by now.
    pub(super) fn arrive(&mut self, now: Instant) {
        while let Some(&(at, bytes)) = self.flight.front()
            && at <= now
        {
            self.flight.pop_front();
            self.in_flight -= bytes;
        }
    }

    /// Copies what has arrived. Returns what it found, and whether a blocked writer should be woken: when half of the
    /// buffer is free, as a TCP window opens, so that small reads do not cause small writes.
    pub(super) fn read(&mut self, limit: usize, into: &mut ReadBuf<'_>) -> io::Result<(Read, bool)> {
        if self.state == State::Reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let wanted = (self.buffer.len() - self.in_flight).min(into.remaining());
        if wanted == 0 {
            let found = match self.state {
                _ if into.remaining() == 0 => Read::Bytes,
                State::Ended if self.flight.is_empty() => Read::End,
                _ => Read::Wait(self.flight.front().map(|(at, _)| *at)),
            };
            return Ok((found, false));
        }
        let (front, back) = self.buffer.as_slices();
        let (front, back) = match front.split_at_checked(wanted) {
            Some((front, _)) => (front, &[][..]),
            None => (front, back.get(..wanted - front.len()).unwrap_or_default()),
        };
        into.put_slice(front);
        into.put_slice(back);
        if wanted == self.buffer.len() {
            self.buffer.clear(); // back to the start: the same cache lines again
            if self.buffer.capacity() > KEEP {
                self.buffer = VecDeque::new();
            }
        } else {
            self.buffer.drain(..wanted);
        }
        Ok((Read::Bytes, self.buffer.len() <= limit / 2))
    }

    /// Takes as much as there is room for; it arrives at that moment, or at once. Nothing: the buffer is full.
    pub(super) fn write(
        &mut self,
        limit: usize,
        from: &[IoSlice<'_>],
        arrival: Option<Instant>,
    ) -> io::Result<Option<usize>> {
        match self.state {
            State::Reset => return Err(ErrorKind::ConnectionReset.into()),
            State::Ended => return Err(ErrorKind::BrokenPipe.into()),
            State::Open if self.deaf => return Err(ErrorKind::BrokenPipe.into()),
            State::Open => {}
        }
        let room = limit.saturating_sub(self.buffer.len());
        if room == 0 {
            return Ok(if from.iter().all(|part| part.is_empty()) { Some(0) } else { None });
        }
        if self.buffer.capacity() == 0 {
            let peak = std::mem::take(&mut self.peak);
            self.buffer.reserve(peak);
        }
        let mut taken = 0;
        for part in from {
            let part = part.get(..room - taken).unwrap_or(part);
            self.buffer.extend(part);
            taken += part.len();
        }
        self.peak = self.peak.max(self.buffer.len());
        if taken > 0 {
            self.depart(taken, arrival);
        }
        Ok(Some(taken))
    }

    /// The writer ends in order. Whether that is news.
    pub(super) fn end(&mut self, arrival: Option<Instant>) -> bool {
        let news = self.state == State::Open;
        if news {
            self.state = State::Ended;
            self.depart(0, arrival);
        }
        news
    }

    /// The reader is gone: writes fail from now on. Whether something was left unread.
    pub(super) fn deafen(&mut self) -> bool {
        self.deaf = true;
        !self.buffer.is_empty()
    }

    /// Cuts it and forgets what was in it. Whether that is news.
    pub(super) fn reset(&mut self) -> bool {
        let news = self.state != State::Reset;
        *self = Pipe { state: State::Reset, ..Pipe::default() };
        news
    }

    /// A stream never reorders: a piece arrives no sooner than the one before it.
    fn depart(&mut self, bytes: usize, arrival: Option<Instant>) {
        let last = self.flight.back().map(|(at, _)| *at);
        if let Some(at) = arrival.max(last) {
            self.flight.push_back((at, bytes));
            self.in_flight += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};
    use std::time::Duration;

    /// A million random steps against the plain definition: a queue of (byte, arrival).
    #[test]
    fn keeps_every_byte_in_order_within_its_limit() {
        let mut rng = Seed::new(7).rng();
        let start = time::now();
        let (mut now, mut next, mut last) = (start, 0_u8, start);
        let (mut pipe, mut model, mut limit) = (Pipe::default(), VecDeque::new(), 100);
        for step in 0..1_000_000 {
            now += Duration::from_micros(rng.below(50));
            match rng.below(2) {
                0 => {
                    let bytes: Vec<u8> = (0..rng.below(80)).map(|offset| next.wrapping_add(offset as u8)).collect();
                    let cut = rng.below(bytes.len() as u64 + 1) as usize;
                    let parts = [IoSlice::new(&bytes[..cut]), IoSlice::new(&bytes[cut..])];
                    let at = (step % 3 > 0).then(|| now + Duration::from_micros(rng.below(1000)));
                    let taken = pipe.write(limit, &parts, at).unwrap().unwrap_or(0);
                    assert_eq!(taken, bytes.len().min(limit - model.len()), "step {step}");
                    if taken > 0 {
                        last = at.unwrap_or(now).max(if model.is_empty() { start } else { last });
                        model.extend(bytes[..taken].iter().map(|byte| (*byte, last)));
                        next = next.wrapping_add(taken as u8);
                    }
                }
                _ => {
                    pipe.arrive(now);
                    let mut space = [0; 64];
                    let mut into = ReadBuf::new(&mut space[..rng.below(65) as usize]);
                    let arrived = model.iter().take_while(|(_, at)| *at <= now).count().min(into.remaining());
                    let (found, _) = pipe.read(limit, &mut into).unwrap();
                    let wanted: Vec<u8> = model.drain(..arrived).map(|(byte, _)| byte).collect();
                    assert_eq!(into.filled(), wanted, "step {step}");
                    assert_eq!(found == Read::Bytes, arrived > 0 || into.remaining() == 0, "step {step}");
                    if model.is_empty() {
                        limit = 1 + rng.below(200) as usize;
                    }
                }
            }
        }
    }

    #[test]
    fn gives_memory_back_and_takes_it_at_once() {
        let mut pipe = Pipe::default();
        let burst = vec![1; 32 << 10];
        pipe.write(64 << 10, &[IoSlice::new(&burst)], None).unwrap();
        let mut space = vec![0; 64 << 10];
        pipe.read(64 << 10, &mut ReadBuf::new(&mut space)).unwrap();
        assert_eq!(pipe.buffer.capacity(), 0);
        pipe.write(64 << 10, &[IoSlice::new(b"x")], None).unwrap();
        assert!(pipe.buffer.capacity() >= 32 << 10, "as much as the last time");
        pipe.read(64 << 10, &mut ReadBuf::new(&mut space)).unwrap();
        pipe.write(64 << 10, &[IoSlice::new(b"x")], None).unwrap();
        assert!(pipe.buffer.capacity() <= KEEP, "one burst is not remembered for ever");
    }

    #[test]
    fn the_end_comes_after_the_bytes_and_a_reset_before_them() {
        let mut space = [0; 8];
        let mut pipe = Pipe::default();
        pipe.write(10, &[IoSlice::new(b"ab")], None).unwrap();
        assert!(pipe.end(None) && !pipe.end(None));
        assert_eq!(pipe.write(10, &[IoSlice::new(b"c")], None).unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(pipe.read(10, &mut ReadBuf::new(&mut space)).unwrap().0, Read::Bytes);
        assert_eq!(pipe.read(10, &mut ReadBuf::new(&mut space)).unwrap().0, Read::End);
        let mut pipe = Pipe::default();
        pipe.write(10, &[IoSlice::new(b"ab")], None).unwrap();
        assert!(pipe.reset() && !pipe.reset());
        assert_eq!(pipe.read(10, &mut ReadBuf::new(&mut space)).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
