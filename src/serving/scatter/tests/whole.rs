//! Answers of which one is made: trees that add up, work that is cut into parts.

use super::*;

/// Random trees of two levels against a count by hand; the deadline falls into the middle of them.
#[tokio::test(start_paused = true)]
async fn trees_add_up_exactly_whatever_is_late_or_failed_in_them() {
    let (mut rng, mut partial) = (Seed::new(5).rng(), 0);
    for round in 0..300 {
        let (branches, mut sum) = (Endpoints::named("branches"), Tally::default());
        for branch in 0..rng.range(1..8) {
            let script: Vec<Does> = (0..rng.range(1..30))
                .map(|_| match rng.below(8) {
                    0 => fails(rng.range(0..40)),
                    1 => answers(rng.range(42..60)), // after the deadline
                    _ => answers(rng.range(0..40)),
                })
                .collect();
            let count = |wanted: fn(&Does) -> bool| script.iter().filter(|does| wanted(does)).count();
            let answered = count(|does| does.well && does.after < Some(41));
            let (failed, late) = (count(|does| !does.well), count(|does| does.well && does.after > Some(41)));
            let needed = Coverage::fraction(0.6).unwrap();
            // a branch that falls short is lost as a whole
            sum = sum
                + match answered >= needed.of(script.len()) {
                    true => Tally { answered, failed, late, ..Tally::default() },
                    false => Tally { failed: script.len(), ..Tally::default() },
                };
            let inner = Scatter::new(set(&script, &Log::default())).require(needed);
            let inner = inner.gather(|answers: Answers<usize>| answers.into_values().count());
            branches.insert(branch.to_string(), BoxCloneSyncService::new(inner));
        }
        if round % 3 == 0 {
            let silent = |_: Request<u32>| std::future::pending::<Result<Gathered<usize>>>();
            branches.insert("silent", BoxCloneSyncService::new(service_fn(silent)));
            sum.late += 1;
        }
        let tree = Scatter::new(branches).require(Coverage::count(0)).within(41 * MILLI);
        let mut tree =
            tree.gather(|counts: Answers<Gathered<usize>>| counts.into_values().map(|count| count.value).sum()).tree();
        let gathered: Gathered<usize> = tree.call(request()).await.unwrap();
        assert_eq!((gathered.tally, gathered.value), (sum, sum.answered), "round {round}");
        partial += usize::from(sum.late > 0 && sum.answered > 0);
        // and the requirement is one of all leaves
        let all = sum.answered;
        assert_eq!(Coverage::fraction(sum.fraction()).unwrap().of(sum.leaves()), all);
        tree.handle().set_require(Coverage::count(all));
        assert!(tree.call(request()).await.is_ok());
        tree.handle().set_require(Coverage::count(all + 1));
        let error = tree.call(request()).await.unwrap_err();
        assert_eq!((shortfall(&error).tally, shortfall(&error).needed), (sum, all + 1));
    }
    assert!(partial > 200, "{partial}");
}

#[tokio::test(start_paused = true)]
async fn parts_of_the_work_go_to_identical_replicas_and_come_back_in_order() {
    let workers = Replicas::named("workers");
    let asked = Arc::new(Lock::new(BTreeSet::new()));
    for worker in 0..4_u32 {
        let asked = asked.clone();
        workers.endpoints().insert(
            worker.to_string(),
            service_fn(move |part: Request<Vec<u32>>| {
                asked.lock().insert(worker);
                async move {
                    time::sleep(MILLI * (part.message()[0] * 13 % 7)).await;
                    Ok::<_, Error>(part.message().iter().map(|number| number * 2).collect::<Vec<_>>())
                }
            }),
        );
    }
    let cut =
        |all: Request<Vec<u32>>| all.message().chunks(10).map(|part| Request::new(part.to_vec())).collect::<Vec<_>>();
    let mut doubled = Scatter::new(Parts::new(workers, cut));
    for count in [1, 10, 11, 95] {
        let answers = doubled.call(Request::new((0..count).collect())).await.unwrap();
        let names: Vec<String> = answers.iter().map(|answer| answer.name.to_string()).collect();
        assert_eq!(names, (0..count.div_ceil(10)).map(|part| format!("part {part}")).collect::<Vec<_>>());
        let all: Vec<u32> = answers.into_values().flatten().collect();
        assert_eq!(all, (0..count).map(|number| number * 2).collect::<Vec<_>>());
    }
    assert_eq!(asked.lock().len(), 4);
}
