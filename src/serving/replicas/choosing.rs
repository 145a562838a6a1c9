//! Whom a call goes to: by the picker, elsewhere where it is made again, and whether one that is out is tried.

use crate::{
    layer::attempt,
    serving::{
        Among, Choice, Draw, Picker,
        ejecting::on_trial,
        snapshot::{Endpoint, Snapshot},
    },
};

/// Whom the picker chooses for this request.
#[inline(always)]
pub(super) fn choose<'a, S, Req: ?Sized, P: Picker<Req>>(
    picker: &P,
    set: &'a Snapshot<S>,
    request: &Req,
    draw: &mut Draw,
) -> Option<(&'a Endpoint<S>, Choice)> {
    let among = Among::new(set);
    let choice = match attempt::any_tried() {
        false => picker.choose(&among, request, draw)?,
        true => elsewhere(&among, |among| picker.choose(among, request, draw))?,
    };
    Some((set.list.get(choice.place)?, choice))
}

/// Of a choice that fell on an endpoint that is out: what is called instead, or to see whether it comes back.
#[cold]
pub(super) fn tried_out<'a, S, Req: ?Sized, P: Picker<Req>>(
    picker: &P,
    set: &'a Snapshot<S>,
    request: &Req,
    draw: &mut Draw,
    choice: Choice,
) -> Option<(&'a Endpoint<S>, Choice)> {
    let among = Among::new(set);
    let choice = match attempt::any_tried() {
        false => on_trial(picker, &among, request, draw, choice)?,
        true => elsewhere(&among, |among| on_trial(picker, among, request, draw, choice))?,
    };
    Some((set.list.get(choice.place)?, choice))
}

/// Of an attempt beyond the first: what is chosen among the endpoints that none went to before; where that is nothing,
/// among all.
#[cold]
fn elsewhere<S>(among: &Among<'_, S>, mut choose: impl FnMut(&Among<'_, S>) -> Option<Choice>) -> Option<Choice> {
    let list = &among.snapshot.list;
    let fresh = |place: usize| list.get(place).is_some_and(|endpoint| !attempt::tried(endpoint.cell.key()));
    among.only(&fresh, &mut choose).or_else(|| choose(among))
}
