//! Lists of clips: pages and filters.

use kinora_serve::store::jobs::{self, Api, Filter, Kind, NewJob, Order, Status};
use rusqlite::Connection;

use super::common::{NOW, add, claim, clip, done, make, store, terms, write};

fn list(store: &Connection, filter: &Filter, after: Option<&str>, limit: u32, order: Order) -> (Vec<String>, bool) {
    let page = jobs::list(store, "a", filter, after, limit, order).expect("a page");
    (page.jobs.into_iter().map(|job| job.id).collect(), page.more)
}

#[test]
fn pages_follow_each_other_without_gaps() {
    let mut store = store();
    let ids: Vec<_> = (0..25).map(|_| add(&mut store, "a").id).collect();
    add(&mut store, "b");
    for order in [Order::Ascending, Order::Descending] {
        let (mut found, mut more) = (Vec::new(), true);
        while more {
            let after = found.last().cloned();
            let (page, goes_on) = list(&store, &Filter::default(), after.as_deref(), 10, order);
            assert_eq!(page.len(), if goes_on { 10 } else { 5 });
            more = goes_on;
            found.extend(page);
        }
        if order == Order::Descending {
            found.reverse();
        }
        assert_eq!(found, ids);
    }
    // A page that ends with the list says so.
    assert!(!list(&store, &Filter::default(), None, 25, Order::Ascending).1);
    assert!(list(&store, &Filter::default(), None, 24, Order::Ascending).1);
}

#[test]
fn filters_find_what_they_say() {
    let mut store = store();
    let first = add(&mut store, "a").id;
    make(&mut store, &first, &done(3, None));
    let new = NewJob {
        parent: Some(first.clone()),
        kind: Kind::Remix,
        api: Api::Kling,
        prompt: r"100% Snow_fall \o/".into(),
        ..clip("a", 0)
    };
    let second = write(&mut store, |write| jobs::insert(write, &new, &terms(None), NOW)).expect("accepted").id;
    claim(&mut store).expect("the second clip");
    let third = add(&mut store, "a").id;
    write(&mut store, |write| jobs::star(write, "a", &third, true)).expect("a star");
    let all = Filter::default;
    for (filter, expected) in [
        (all(), vec![&first, &second, &third]),
        (Filter { statuses: vec![Status::Succeeded], ..all() }, vec![&first]),
        (Filter { statuses: vec![Status::Running, Status::Queued], ..all() }, vec![&second, &third]),
        (Filter { starred: Some(true), ..all() }, vec![&third]),
        (Filter { starred: Some(false), ..all() }, vec![&first, &second]),
        (Filter { parent: Some(first.clone()), ..all() }, vec![&second]),
        (Filter { text: Some("snow".into()), ..all() }, vec![&second]),
        (Filter { text: Some("0% s".into()), ..all() }, vec![&second]),
        (Filter { text: Some(r"\o".into()), ..all() }, vec![&second]),
        (Filter { text: Some("w_f".into()), ..all() }, vec![&second]),
        (Filter { text: Some("%".into()), ..all() }, vec![&second]),
        (Filter { text: Some("' OR 1=1 --".into()), ..all() }, vec![]),
        (Filter { api: Some(Api::Own), kind: Some(Kind::Clip), ..all() }, vec![&first, &third]),
        (Filter { kind: Some(Kind::Remix), starred: Some(true), ..all() }, vec![]),
    ] {
        let found = list(&store, &filter, None, 100, Order::Ascending).0;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(jobs::count(&store, "a", &filter).expect("a number"), expected.len() as u64, "{filter:?}");
    }
    assert_eq!(jobs::storage(&store, "a").expect("a number"), 3);
    write(&mut store, |write| jobs::delete(write, "a", &first, NOW)).expect("deleted");
    assert_eq!(list(&store, &all(), None, 100, Order::Ascending).0, [second, third]);
    assert_eq!(jobs::storage(&store, "a").expect("a number"), 0);
}
