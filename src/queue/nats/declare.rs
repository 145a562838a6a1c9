//! Declaring: streams and consumers made as asked, and read back.

use super::{
    core::Core,
    plan::{self, Declared},
};
use crate::base::{Error, Kind, Name, Result, sync::atomic::Ordering};
use crate::queue::{DEAD_LETTERS, Subscription, Topic, TopicOptions};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

impl Core {
    pub(super) async fn declare(self: &Arc<Self>, topic: &Topic, options: TopicOptions) -> Result {
        let declared = Declared::of(topic, &options, false, self.settings.history)?;
        self.declare_topic(topic, declared).await?;
        for subscription in &options.subscriptions {
            self.subscribe(topic, subscription).await?;
        }
        if let Some(dead) = &options.dead_letters {
            if self.look_up(dead).await?.is_none() {
                let implied = Declared::of(dead, &TopicOptions::new(), true, self.settings.history)?;
                self.declare_topic(dead, implied).await?;
            }
            self.subscribe(dead, &Name::from(DEAD_LETTERS)).await?;
        }
        Ok(())
    }

    async fn declare_topic(self: &Arc<Self>, topic: &Topic, declared: Declared) -> Result {
        let link = self.link().await?;
        let asked = declared.stream(self.names(), topic.name(), self.settings.replicas);
        match self.look_up(topic).await? {
            Some(there) if there.declared.agrees(&declared) && (declared.implied || !there.declared.implied) => {
                return Ok(());
            }
            Some(there) if there.declared.implied => {
                link.must(&format!("STREAM.UPDATE.{}", self.names().stream(topic.name())), &asked)
                    .await
                    .map_err(|error| error.at(self.at(format!("topic {topic}"))))?;
            }
            Some(there) => {
                let message = format!("it is declared as {:?}, not as {declared:?}", there.declared);
                return Err(Error::new(Kind::Conflict, message).at(self.at(format!("topic {topic}"))));
            }
            None => {}
        }
        self.topics.lock().remove(topic);
        if self.make_stream(link, &asked).await? {
            // its messages are counted from 1 again: notes on an earlier stream of that name are not about them
            let old = json!({ "filter": self.names().notes_on(topic.name()) });
            link.must(&format!("STREAM.PURGE.{}", self.names().notes()), &old)
                .await
                .map_err(|error| error.at(self.at(format!("topic {topic}"))))?;
        }
        self.look_up(topic).await.map(drop)
    }

    async fn subscribe(self: &Arc<Self>, topic: &Topic, name: &Name) -> Result {
        let subscription = Subscription::new(topic, name);
        match self.find(&subscription).await? {
            None => self.make_consumer(&subscription, plan::wait_for(Duration::from_secs(30))).await?,
            Some(info) => {
                let has = info.get("config").unwrap_or(&Value::Null);
                let wait = has.get("ack_wait").and_then(Value::as_u64).map_or(Duration::ZERO, Duration::from_nanos);
                let history = self.known(topic).await?.declared.has_history();
                let asked = plan::consumer(&self.names().consumer(name), wait, history);
                if let Some(difference) = plan::differs(&asked, has) {
                    let message = format!("its consumer is there, and not as seedpod needs it: {difference}");
                    return Err(Error::new(Kind::Conflict, message).at(self.at(format!("subscription {subscription}"))));
                }
            }
        }
        self.known(topic).await?.subscribed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The consumer is there, waits this long, and is read back.
    pub(super) async fn make_consumer(self: &Arc<Self>, subscription: &Subscription, wait: Duration) -> Result {
        let (link, names) = (self.link().await?, self.names());
        let (stream, name) = (names.stream(subscription.topic.name()), names.consumer(&subscription.name));
        let history = self.known(&subscription.topic).await?.declared.has_history();
        let asked = plan::consumer(&name, wait, history);
        let place = || self.at(format!("subscription {subscription}"));
        let call = format!("CONSUMER.DURABLE.CREATE.{stream}.{name}");
        let question = json!({ "stream_name": stream, "config": asked });
        let made = link.api(&call, &question).await.map_err(|error| error.at(place()))?;
        made.map_err(|refusal| link.failed("CONSUMER.CREATE", &refusal).at(place()))?;
        let has = link
            .must(&format!("CONSUMER.INFO.{stream}.{name}"), &Value::Null)
            .await
            .map_err(|error| error.at(place()))?;
        match plan::differs(&asked, has.get("config").unwrap_or(&Value::Null)) {
            None => Ok(()),
            Some(difference) => {
                let message = format!("the server keeps the consumer otherwise than asked: {difference}");
                Err(Error::new(Kind::Unsupported, message).at(place()))
            }
        }
    }
}
