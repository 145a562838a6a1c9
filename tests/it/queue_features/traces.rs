//! The trace of a message, from whoever submits it to what its handler makes.

use super::*;
use seedpod::queue::{Done, Job, Message, Task, Trace};

const REQUEST: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(start_paused = true)]
async fn what_a_handler_submits_and_makes_is_of_its_trace_and_each_try_a_part_of_its_own() {
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let orders: Queue<u32> = Queue::open(broker.clone(), "orders").await.unwrap();
    let mails: Queue<u32> = Queue::open(broker.clone(), "mails").await.unwrap();
    let request: Trace = REQUEST.parse().unwrap();
    orders.submit(Job::new(1).trace(request.clone())).await.unwrap();
    orders.submit(Job::new(2)).await.unwrap();
    let own = Log::new();
    let work = {
        let (own, mails) = (own.clone(), mails.clone());
        tower::service_fn(move |task: Task<u32>| {
            let (own, mails) = (own.clone(), mails.clone());
            async move {
                own.say((task.value, Trace::current()));
                if task.value == 1 && task.attempts().total() == 0 {
                    return Err(Error::new(Kind::Unavailable, "not now"));
                }
                mails.submit(task.value).await?;
                let made = Publish::json(mails.topic(), task.message().derive(0, 0), task.value);
                Ok(Done::new().publish(made))
            }
        })
    };
    assert_eq!(Trace::current(), None);
    orders.tasks(work).run_until(time::sleep(60 * SECOND)).await.unwrap();
    let own = own.all();
    let of =
        |number: u32| own.iter().filter(|(of, _)| *of == number).map(|(_, trace)| trace.clone()).collect::<Vec<_>>();
    let (traced, untraced) = (of(1), of(2));
    assert_eq!(untraced, [None], "nothing is made up");
    let [Some(first), Some(second)] = &traced[..] else { panic!("{traced:?}") };
    assert!(first.trace_id() == request.trace_id() && second.trace_id() == request.trace_id());
    assert!(first.span_id() != second.span_id() && first.span_id() != request.span_id());
    let want = Want::items(9).chunk(1).wait(Duration::ZERO);
    let mut parents: Vec<_> = broker
        .lease(mails.subscription(), want)
        .await
        .unwrap()
        .iter()
        .map(|mail| (mail.json::<u32>(0).unwrap(), Trace::read(&mail.batch.headers)))
        .collect();
    parents.sort_unstable_by_key(|(number, _)| *number);
    let expected = [(1, Some(second.clone())), (1, Some(second.clone())), (2, None), (2, None)];
    assert_eq!(parents, expected);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_linked_to_the_traces_of_all_and_hostile_headers_are_no_trace() {
    use seedpod::queue::{BatchBy, Batched, Ends};
    let (queue, links) = (numbers().await, Log::new());
    for number in 0..3 {
        let trace = Trace::new(number + 1, 7).unwrap();
        queue.submit(Job::new(number as u32).trace(trace)).await.unwrap();
    }
    for hostile in ["", "00-", "nonsense", &"f".repeat(10_000)] {
        queue.submit(Job::new(9).header("traceparent", hostile)).await.unwrap();
    }
    let service = {
        let links = links.clone();
        tower::service_fn(move |batch: Vec<Message>| {
            links.say(Trace::links(&batch));
            let ends: Ends = batch.iter().map(|_| Ok(Done::new())).collect();
            async move { Ok::<_, Error>(ends) }
        })
    };
    let pump = seedpod::queue::consume(
        queue.broker().clone(),
        queue.subscription().clone(),
        Batched::new(BatchBy::size(7), service),
    );
    pump.concurrency(7).run_until(time::sleep(SECOND)).await.unwrap();
    let mut traces: Vec<_> = links.all().concat().iter().map(Trace::trace_id).collect();
    traces.sort_unstable();
    assert_eq!((links.all().len(), traces), (1, vec![1, 2, 3]));
    assert!(Trace::new(0, 1).is_err() && Trace::new(1, 0).is_err());
}
