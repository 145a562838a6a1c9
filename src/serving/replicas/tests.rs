//! What a call says when it fails, who is asked about it, and where an attempt goes that lost a race.

use super::*;
use crate::{
    base::{Outcome, time},
    serving::Ejection,
};
use futures::FutureExt;
use tower::service_fn;

#[test]
fn an_empty_set_says_its_name() {
    let mut replicas = Replicas::named("cart");
    let error = replicas.call(1).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cart: unavailable: it has no endpoints");
    let never = service_fn(|_: u32| async { Ok::<_, Error>(()) });
    replicas.endpoints().insert("a", never);
    assert!(replicas.call(1).now_or_never().unwrap().is_ok());
    assert!(replicas.pick().is_some_and(|picked| picked.key() == "a"));
}

#[test]
fn errors_name_the_endpoint_closest_to_the_cause_through_two_levels() {
    let inner = Replicas::named("inner");
    inner.endpoints().insert("bad", service_fn(|_: u8| async { Err::<u8, BoxError>("boom".into()) }));
    let outer = Replicas::named("outer");
    outer.endpoints().insert("nested", inner.clone());
    let (pick, mut outer) = (outer.clone(), outer);
    let mut call = Box::pin(outer.call(1));
    assert_eq!(pick.endpoints().pending("nested"), Some(1));
    let error = call.as_mut().now_or_never().unwrap().unwrap_err();
    assert_eq!(error.chain(), "bad: failed: boom");
    assert_eq!((pick.endpoints().pending("nested"), inner.endpoints().pending("bad")), (Some(0), Some(0)));
}

#[test]
fn the_classifier_is_asked_once_per_call_and_a_bad_answer_shuns() {
    let asked = std::sync::Arc::new(crate::base::sync::Lock::new(Vec::new()));
    let log = asked.clone();
    let judge = move |result: Result<&i32, &Error>| {
        log.lock().push(result.copied().ok());
        if result.is_ok_and(|answer| *answer < 0) { Outcome::Failure } else { Outcome::Success }
    };
    let mut replicas = Replicas::new(Endpoints::named("signs").seed(crate::base::Seed::new(1))).classify(judge);
    for (key, answer) in [("good", 1), ("bad", -1)] {
        replicas.endpoints().insert(key, service_fn(move |(): ()| async move { Ok::<_, Error>(answer) }));
    }
    let answers: Vec<_> = (0..100).map(|_| replicas.call(()).now_or_never().unwrap().ok()).collect();
    assert_eq!(*asked.lock(), answers);
    assert!(answers.iter().filter(|answer| **answer == Some(-1)).count() <= 1, "{answers:?}");
}

/// The first that can be picked, by its place.
struct First;

impl<Req: ?Sized> Picker<Req> for First {
    fn choose<S>(&self, among: &Among<'_, S>, _: &Req, _: &mut Draw) -> Option<Choice> {
        (0..among.len()).find(|place| among.is_pickable(*place)).map(Choice::of)
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_loses_the_race_for_a_probe_goes_where_none_went_before() {
    let second = std::time::Duration::from_secs(1);
    let endpoints = Endpoints::named("race").eject(Ejection::none().failures(1).wait(second).jitter(0.0)).unwrap();
    for key in ["a", "b", "c"] {
        endpoints.insert(key, ());
    }
    let current = endpoints.current_shared();
    Replicas::new(endpoints.clone()).pick_by(First).pick().unwrap().lease.complete(Outcome::Failure);
    time::sleep(second).await;
    let (mut draw, note) = (Draw::new(crate::base::Seed::new(1).rng()), |place: usize| {
        attempt::note_tried(current.list[place].cell.key());
    });
    attempt::Tried::default().follow(|| {
        note(1);
        let (due, choice) = choose(&First, &current, &(), &mut draw).unwrap();
        assert_eq!(&**due.cell.key(), "a");
        let _faster = due.cell.admit();
        let (other, _) = tried_out(&First, &current, &(), &mut draw, choice).unwrap();
        assert_eq!(&**other.cell.key(), "c");
        note(2);
        let (other, _) = tried_out(&First, &current, &(), &mut draw, choice).unwrap();
        assert_eq!(&**other.cell.key(), "b", "where all were tried, any");
    });
}
