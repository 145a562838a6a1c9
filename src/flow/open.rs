//! A batch that is sent bit by bit, and closed when there is no more.

use super::{
    Item,
    ends::Input,
    lineage::{self, Share},
    mark::Mark,
};
use crate::base::{Error, Kind, Name, Result};
use crate::queue::{Broker, Codec, Id, Json, Need, Payload, Postcard, Publish, Step};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::VecDeque, fmt};

/// A batch that is open: [`Input::open`] makes it.
///
/// Where the broker is durable, it outlives this process: whoever [opens](Input::open) it again goes on with it. Several
/// may add to it at once.
///
/// # Cancel-safety
/// A dropped [`add`](OpenBatch::add) or [`close`](OpenBatch::close) has taken effect whole or not at all; doing it again,
/// under the same id, is safe.
pub struct OpenBatch<T> {
    input: Input<T>,
    id: Id,
    /// What was there when it last looked.
    version: u64,
    row: Option<Row>,
    /// The outcome of the last call is not known.
    unsure: bool,
}

/// A batch that is open, as the broker keeps it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Row {
    /// How many batches of the source were closed before it: so that its messages are no other's of this id.
    generation: u64,
    additions: u64,
    items: u64,
    /// What all that was said so far weighs.
    sum: u64,
    recent: VecDeque<(u64, u64)>,
}

/// The last batches that were closed.
type Closed = VecDeque<(u64, u64)>;

/// How many additions of a batch are known by their ids, and how many closed batches of a source.
const KNOWN: usize = 256;

fn halves(id: Id) -> (u64, u64) {
    ((id.as_u128() >> 64) as u64, id.as_u128() as u64)
}

/// Remembers one more.
fn remember(ids: &mut VecDeque<(u64, u64)>, id: Id) {
    ids.push_back(halves(id));
    ids.drain(..ids.len().saturating_sub(KNOWN));
}

async fn load<R: Serialize + DeserializeOwned + Send>(broker: &dyn Broker, key: &Name) -> Result<(u64, Option<R>)>
where
    Postcard: Codec<R>,
{
    let (version, bytes) = broker.load(key).await?;
    if version == 0 {
        return Ok((0, None));
    }
    let bad = |error: Error| Error::new(Kind::Corrupt, "").because(error).at(format!("state {key}"));
    Ok((version, Some(<Postcard as Codec<R>>::decode(&bytes).map_err(bad)?)))
}

impl<T: Item> Input<T> {
    /// Opens a batch, to which items are [added](OpenBatch::add) as they come, until it is [closed](OpenBatch::close): a
    /// [`join`](super::Stream::join) waits for all of them, and not before it is closed. Opening one that is open goes on
    /// with it.
    ///
    /// The time of the join begins now: where the batch is not closed in time, the join fires without what is missing and
    /// says so, and what is added after that goes to the dead letters with the reason. What is kept of the batch is a few
    /// numbers and the ids of its last 256 additions; it is forgotten when the batch is closed.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where the batch was closed, as far as the source's last 256 closed batches tell;
    /// [`Kind::Invalid`] where no join waits for what comes by this source; [`Kind::Unsupported`] on a broker without
    /// atomic steps and state; else the broker's.
    ///
    /// ```
    /// use seedpod::{flow::{Batch, Flow, Joined, OnFailed}, queue::{Id, Memory}};
    /// use std::{sync::Arc, time::Duration};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
    /// let mut flow = Flow::new("album");
    /// let photos = flow.source::<String>("photos");
    /// photos.join(Batch::sent(), Duration::from_secs(3600), OnFailed::Report).sink("albums");
    /// let run = flow.build()?.on(Arc::new(Memory::new()));
    ///
    /// let mut monday = run.input::<String>("photos").await?.open(Id::of("monday")).await?;
    /// monday.add(Id::of("morning"), vec!["sea".to_string(), "sky".to_string()]).await?;
    /// monday.add(Id::of("evening"), vec!["moon".to_string()]).await?;
    /// run.until_drained().await?;
    /// let albums = run.output::<Joined<()>>("albums")?;
    /// assert!(albums.ready().await?.is_empty(), "there may be more");
    /// monday.close().await?;
    /// run.until_drained().await?;
    /// assert_eq!(albums.ready().await?[0].arrived, 3);
    /// # Ok(()) }
    /// ```
    pub async fn open(&self, id: Id) -> Result<OpenBatch<T>> {
        let place = || format!("topic {}", self.topic);
        self.broker.guarantees().require(&[Need::AtomicStep, Need::State]).map_err(|error| error.at(place()))?;
        if !self.joined {
            return Err(Error::new(Kind::Invalid, "no join waits for its batches").at(place()));
        }
        let mut batch = OpenBatch { input: self.clone(), id, version: 0, row: None, unsure: false };
        loop {
            batch.look().await?;
            if batch.row.is_some() {
                return Ok(batch);
            }
            let (generation, closed) = batch.closed().await?;
            if closed.contains(&halves(id)) {
                return Err(batch.is_closed());
            }
            let row = Row { generation, sum: lineage::opening(id), ..Row::default() };
            let step = Step::new().publish(batch.marked(&row, Mark::Opens(id), Payload::value((), Json), 0));
            match batch.settle(step, Some(row)).await {
                Err(error) if error.is_conflict() => {}
                settled => return settled.map(|()| batch),
            }
        }
    }
}

impl<T: Item> OpenBatch<T> {
    /// The id of the batch.
    pub fn id(&self) -> Id {
        self.id
    }

    /// How many items it had when this handle last looked: where to go on, for whoever opened it again.
    pub fn items(&self) -> u64 {
        self.row.as_ref().map_or(0, |row| row.items)
    }

    /// Adds items, under an id that says what they are: the same again is a duplicate, and adds nothing. Once this has
    /// returned, they are stored. While the source is full, it waits.
    ///
    /// # Errors
    /// [`Kind::Conflict`], naming the batch, where it was closed: nothing is stored then. [`Kind::Invalid`] where there
    /// are no items. Else the broker's, after which it is to be done again.
    pub async fn add(&mut self, id: Id, items: Vec<T>) -> Result {
        let (count, place) = (items.len() as u64, format!("batch {}", self.id));
        if items.is_empty() {
            return Err(Error::new(Kind::Invalid, "an addition of nothing").at(place));
        }
        let payload = Payload::values(items, Json);
        loop {
            if self.unsure {
                self.look().await?;
            }
            let Some(row) = &self.row else { return Err(self.is_closed()) };
            if row.recent.contains(&halves(id)) {
                return Ok(());
            }
            let mut row = row.clone();
            let weight = lineage::addition(self.id, row.additions);
            row.additions += 1;
            row.items += count;
            row.sum = row.sum.wrapping_add(weight);
            remember(&mut row.recent, id);
            let mark = Mark::Adds(Share { batch: self.id, weight });
            let step = Step::new().publish(self.marked(&row, mark, payload.clone(), row.additions));
            match self.settle(step, Some(row)).await {
                Err(error) if error.is_conflict() => {} // another has added meanwhile
                settled => return settled,
            }
        }
    }

    /// Closes it: there will be no more. Closing it again changes nothing.
    ///
    /// # Errors
    /// The broker's, after which it is to be done again.
    pub async fn close(&mut self) -> Result {
        loop {
            if self.unsure {
                self.look().await?;
            }
            let Some(row) = &self.row else { return Ok(()) };
            let (version, mut closed) = self.closed().await?;
            remember(&mut closed, self.id);
            let weight = lineage::whole(self.id).wrapping_sub(row.sum);
            let mark = Mark::Closes(Share { batch: self.id, weight });
            let last = self.marked(row, mark, Payload::value((), Json), u64::MAX);
            let step = Step::new().publish(last);
            let step = step.write(self.key("closed"), version, <Postcard as Codec<Closed>>::encode(&closed)?);
            match self.settle(step, None).await {
                Err(error) if error.is_conflict() => {}
                settled => return settled,
            }
        }
    }

    /// Does this, with the row as it is then; where that is refused or unclear, it looks again before it goes on.
    async fn settle(&mut self, step: Step, row: Option<Row>) -> Result {
        let key = self.key(&format!("open/{}", self.id));
        let step = match &row {
            Some(row) => step.write(key, self.version, <Postcard as Codec<Row>>::encode(row)?),
            None => step.forget(key, self.version),
        };
        self.unsure = true; // also where it is dropped
        self.input.broker.settle(step).await?;
        (self.unsure, self.row) = (false, row);
        self.version += 1;
        Ok(())
    }

    async fn look(&mut self) -> Result {
        (self.version, self.row) = load(&*self.input.broker, &self.key(&format!("open/{}", self.id))).await?;
        self.unsure = false;
        Ok(())
    }

    async fn closed(&self) -> Result<(u64, Closed)> {
        let (version, closed) = load(&*self.input.broker, &self.key("closed")).await?;
        Ok((version, closed.unwrap_or_default()))
    }

    fn key(&self, what: &str) -> Name {
        Name::from(format!("{}/{what}", self.input.topic))
    }

    fn marked(&self, row: &Row, mark: Mark, payload: Payload, number: u64) -> Publish {
        let origin = Id::of([self.id.as_u128().to_le_bytes(), u128::from(row.generation).to_le_bytes()].concat());
        let id = Id::derive(self.input.topic.name(), origin, (number >> 32) as u32, number as u32);
        let mut publish = Publish::new(&self.input.topic, id, payload);
        mark.write(&mut publish.headers);
        publish
    }

    #[cold]
    fn is_closed(&self) -> Error {
        Error::new(Kind::Conflict, "it is closed").at(format!("batch {}", self.id))
    }
}

impl<T> fmt::Debug for OpenBatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBatch").field("id", &self.id).field("row", &self.row).finish_non_exhaustive()
    }
}
