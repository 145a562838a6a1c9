//! Outbox: effects that are recorded before they are tried, and delivered from there.

use crate::base::{BoxError, Name, Result};
use crate::flow::{Called, Chain, Edge, Item, Stream};
use std::{future::Future, panic::Location};

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Records what is to be done outside, and has this relay do it.
    ///
    /// ```text
    /// a ──▶ decide ──▶ [ outbox: a' ] ──▶ relay ──▶ the world, under the id of a'
    /// ```
    ///
    /// What the functions before it say goes to the topic `<flow>.<stage>`, in the step that acknowledges what it was
    /// decided on. The stage of this name takes it from there, and goes on with what the relay returns; the settings are
    /// its own. What becomes of a failed try says the table of [`call`](Stream::call).
    ///
    /// # Guarantees
    /// The relay is called at least once for all that was recorded, and never for anything that was not. Every time it
    /// gets the same words under the same [`Called::id`], on any broker and whatever crashes: a receiver that heeds
    /// idempotency keys does it once. A plain [`call`](Stream::call) is given the same id, too, but what the functions
    /// before it make is made anew for each try: where they look at a clock or a price, the key stands for two
    /// different things.
    ///
    /// # Not guaranteed
    /// One call: a relay that is killed before its acknowledgement is called again. What the receiver does with the key.
    ///
    /// ```
    /// use seedpod::{flow::{Called, Flow}, queue::{Id, Memory}};
    /// use std::sync::{Arc, Mutex};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
    /// let sent = Arc::new(Mutex::new(Vec::new()));
    /// let post = sent.clone();
    /// let relay = move |mail: Called<String>| {
    ///     // POST /mails with the header `Idempotency-Key: {mail.id}`
    ///     post.lock().unwrap().push((mail.id.to_string(), mail.item));
    ///     async { Ok::<_, seedpod::Error>(()) }
    /// };
    /// let mut flow = Flow::new("shop");
    /// let thanks = |order: &u32| format!("thank you for order {order}");
    /// flow.source::<u32>("orders").map(thanks).outbox("mails", relay).discard();
    ///
    /// let run = flow.build()?.on(Arc::new(Memory::new()));
    /// run.input("orders").await?.send(Id::of("order 17"), 17_u32).await?;
    /// run.until_drained().await?;
    /// assert_eq!(sent.lock().unwrap()[0].1, "thank you for order 17");
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn outbox<U, F, Fut, E>(self, name: impl Into<Name>, relay: F) -> Edge<U>
    where
        U: Item,
        F: Fn(Called<C::Out>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let at = Location::caller();
        let name: Name = name.into();
        self.recorded(at).named_at(name, at).call(relay)
    }
}
