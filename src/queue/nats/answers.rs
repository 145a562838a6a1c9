//! Many questions asked at once, one behind the other: one subscription takes all answers, one timer ends the waiting.

use crate::base::{
    Error, Kind, Result,
    sync::{Arc, Lock},
    time::Deadline,
};
use async_nats::{Client, HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeMap;
use tokio::{sync::Notify, task::AbortHandle};

/// What is sent, and where.
pub(super) struct Question {
    pub(super) subject: Subject,
    pub(super) headers: Option<HeaderMap>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nobody listens there: what was asked has no effect.
    Nobody,
    /// None has come in time: it may have one.
    Silent,
}

/// Where answers come in, for as long as it lives.
pub(super) struct Answers {
    inbox: String,
    groups: Arc<Lock<Groups>>,
    task: AbortHandle,
}

impl Answers {
    pub(super) async fn open(client: &Client) -> Result<Answers> {
        let inbox = client.new_inbox();
        let letters = client.subscribe(format!("{inbox}.*")).await;
        let letters = letters.map_err(|error| Error::new(Kind::Unavailable, "no inbox").because(error))?;
        let groups = Arc::<Lock<Groups>>::default();
        let task = tokio::spawn(receive(groups.clone(), letters)).abort_handle();
        Ok(Answers { inbox, groups, task })
    }

    /// Asks all of them, and waits until each is answered, but no longer than this; in the order of the questions.
    /// Dropped, no more are asked, and answers are for nobody.
    pub(super) async fn ask_all(
        &self,
        client: &Client,
        until: Deadline,
        questions: impl ExactSizeIterator<Item = Question>,
    ) -> Vec<Result<Message, Unanswered>> {
        let (first, all) = self.groups.lock().begin(questions.len());
        let group = Group { groups: &self.groups, first };
        // what ends at the deadline is told by what has come until then
        let _ = until
            .bound(async {
                for (number, question) in (first..).zip(questions) {
                    let Question { subject, headers, body } = question;
                    let reply = format!("{}.{number}", self.inbox);
                    let sent = match headers {
                        Some(headers) => client.publish_with_reply_and_headers(subject, reply, headers, body).await,
                        None => client.publish_with_reply(subject, reply, body).await,
                    };
                    if sent.is_err() {
                        self.groups.lock().answered(number, Err(Unanswered::Nobody)); // it was not even sent
                    }
                }
                all.notified().await;
            })
            .await;
        group.answers()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(groups: Arc<Lock<Groups>>, mut letters: Subscriber) {
    while let Some(letter) = letters.next().await {
        let Some(number) = letter.subject.rsplit('.').next().and_then(|number| number.parse().ok()) else { continue };
        let nobody = letter.status == Some(StatusCode::NO_RESPONDERS);
        groups.lock().answered(number, if nobody { Err(Unanswered::Nobody) } else { Ok(letter) });
    }
}

/// Questions under way, in groups by the number of the first of each.
#[derive(Default)]
struct Groups {
    next: u64,
    under_way: BTreeMap<u64, UnderWay>,
}

struct UnderWay {
    answers: Vec<Result<Message, Unanswered>>,
    left: usize,
    all: Arc<Notify>,
}

impl Groups {
    fn begin(&mut self, count: usize) -> (u64, Arc<Notify>) {
        let (first, all) = (self.next, Arc::<Notify>::default());
        self.next += count as u64;
        if count == 0 {
            all.notify_one();
        }
        let answers = (0..count).map(|_| Err(Unanswered::Silent)).collect();
        self.under_way.insert(first, UnderWay { answers, left: count, all: all.clone() });
        (first, all)
    }

    /// The first answer to a question counts.
    fn answered(&mut self, number: u64, answer: Result<Message, Unanswered>) {
        let Some((first, group)) = self.under_way.range_mut(..=number).next_back() else { return };
        let Some(place) = group.answers.get_mut((number - first) as usize) else { return };
        if matches!(place, Err(Unanswered::Silent)) {
            *place = answer;
            group.left -= 1;
            if group.left == 0 {
                group.all.notify_one();
            }
        }
    }
}

/// Forgets the group when it is dropped.
struct Group<'a> {
    groups: &'a Lock<Groups>,
    first: u64,
}

impl Group<'_> {
    fn answers(self) -> Vec<Result<Message, Unanswered>> {
        self.groups.lock().under_way.remove(&self.first).map_or_else(Vec::new, |group| group.answers)
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.groups.lock().under_way.remove(&self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Unanswered::{Nobody, Silent};

    fn letter(text: &'static str) -> Message {
        let payload = Bytes::from_static(text.as_bytes());
        Message {
            subject: "inbox".into(),
            reply: None,
            length: payload.len(),
            payload,
            headers: None,
            status: None,
            description: None,
        }
    }

    /// What stands in a group, in short.
    fn shown(groups: &Groups, first: u64) -> Vec<Result<&[u8], Unanswered>> {
        let answers = groups.under_way[&first].answers.iter();
        answers.map(|answer| answer.as_ref().map(|letter| &letter.payload[..]).map_err(|none| *none)).collect()
    }

    #[tokio::test]
    async fn each_answer_finds_its_question_and_the_last_one_ends_the_waiting() {
        let mut groups = Groups::default();
        let (one, all_of_one) = groups.begin(2);
        let (other, all_of_other) = groups.begin(3);
        groups.answered(other + 2, Ok(letter("c")));
        groups.answered(one + 1, Err(Nobody));
        groups.answered(one + 1, Ok(letter("too late")));
        groups.answered(99, Ok(letter("nobody asked")));
        assert_eq!(shown(&groups, one), [Err(Silent), Err(Nobody)]);
        assert_eq!(shown(&groups, other), [Err(Silent), Err(Silent), Ok(&b"c"[..])]);
        groups.answered(one, Ok(letter("a")));
        all_of_one.notified().await;
        assert_eq!(groups.under_way[&other].left, 2);
        groups.under_way.remove(&other);
        groups.answered(other, Ok(letter("after it was given up")));
        assert_eq!(shown(&groups, one), [Ok(&b"a"[..]), Err(Nobody)]);
        drop(all_of_other);
        groups.begin(0).1.notified().await;
    }
}
