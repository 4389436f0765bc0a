//! Tests of `probation`: what is announced, opened and buried, and in which order.

use super::*;

fn probation(condemned: &[&str], messages: u32) -> Probation {
    Probation::new(control::Probation {
        condemned: condemned.iter().map(|&name| name.to_owned()).collect(),
        messages,
    })
}

const fn tag(number: u64) -> Tag {
    Tag {
        generation: 1,
        number,
    }
}

/// A delivery whose body is its name.
fn delivery(name: &str) -> Delivery {
    Delivery::mock(1, "".into(), "".into(), false, name.as_bytes().to_vec())
}

fn name(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

/// The step in a word or two.
fn told(step: &Option<Step>) -> String {
    let Some(step) = step else {
        return "wait".to_owned();
    };
    match step {
        Step::Announce(Some(name)) => format!("announce {name}"),
        Step::Announce(None) => "announce nothing".to_owned(),
        Step::Open(_, delivery) => format!("open {}", name(delivery)),
        Step::Bury(_, delivery) => format!("bury {}", name(delivery)),
        Step::Pass(message) => format!("pass {}", message.tag.number),
        Step::Condemn(message) => format!("condemn {}", message.tag.number),
        Step::End => "end".to_owned(),
    }
}

fn step(probation: &mut Probation, is_clear: bool) -> String {
    told(&probation.step(is_clear, true, name))
}

#[test]
fn a_message_is_announced_before_it_is_opened_and_survived_before_the_next() {
    let mut probation = probation(&[], 9);
    assert_eq!(step(&mut probation, true), "wait", "nothing is there");
    probation.delivered(tag(1), delivery("a"));
    assert_eq!(step(&mut probation, true), "announce a");
    assert_eq!(step(&mut probation, true), "wait", "it is not written yet");
    assert_eq!(told(&probation.announced()), "open a");
    let passed = probation.opened(vec![Message::sample(1, b"1")]);
    assert_eq!(passed.map(|message| message.tag.number), Some(1));
    assert_eq!(step(&mut probation, false), "wait", "it is under way");
    probation.delivered(tag(2), delivery("b"));
    assert_eq!(step(&mut probation, true), "announce b");
    assert_eq!(told(&probation.announced()), "open b");
    probation.opened(vec![Message::sample(2, b"2")]);
    assert_eq!(
        step(&mut probation, true),
        "announce nothing",
        "an idle worker that dies blames nobody"
    );
    assert_eq!(step(&mut probation, true), "wait");
}

#[test]
fn the_messages_of_one_delivery_are_announced_each() {
    let mut probation = probation(&[&Message::sample(2, b"2").id.to_string()], 9);
    probation.delivered(tag(1), delivery("many"));
    assert_eq!(step(&mut probation, true), "announce many");
    assert_eq!(told(&probation.announced()), "open many");
    let [one, two, three] = [1, 2, 3].map(|number| Message::sample(number, b"1"));
    let names = [&one, &three].map(|message| message.id.to_string());
    assert!(probation.opened(vec![one, two, three]).is_none());
    assert!(probation.has_entries());
    assert_eq!(step(&mut probation, true), format!("announce {}", names[0]));
    assert_eq!(told(&probation.announced()), "pass 1");
    assert_eq!(step(&mut probation, false), "wait");
    assert_eq!(step(&mut probation, true), "condemn 2");
    assert_eq!(step(&mut probation, true), format!("announce {}", names[1]));
    assert_eq!(told(&probation.announced()), "pass 3");
    assert!(!probation.has_entries());
    assert_eq!(step(&mut probation, true), "announce nothing");
}

#[test]
fn what_is_condemned_is_never_opened() {
    let mut probation = probation(&["killer"], 9);
    probation.delivered(tag(1), delivery("killer"));
    assert_eq!(step(&mut probation, true), "bury killer");
    assert_eq!(step(&mut probation, false), "wait");
    assert_eq!(step(&mut probation, true), "announce nothing");
}

#[test]
fn it_ends_after_so_many_messages_and_gives_out_what_it_has() {
    let mut probation = probation(&[], 1);
    probation.delivered(tag(1), delivery("a"));
    assert_eq!(step(&mut probation, true), "announce a");
    probation.announced();
    probation.opened(vec![Message::sample(1, b"1")]);
    probation.delivered(tag(2), delivery("b"));
    assert_eq!(step(&mut probation, true), "end");
    let (entries, pending) = probation.into_rest();
    assert_eq!((entries.len(), pending.len()), (0, 1));
}

#[test]
fn what_is_given_back_is_not_opened_any_more() {
    let mut probation = probation(&[], 9);
    probation.delivered(tag(1), delivery("a"));
    assert_eq!(step(&mut probation, true), "announce a");
    assert_eq!(probation.give_back(), [tag(1)]);
    assert_eq!(told(&probation.announced()), "wait");
    assert_eq!(step(&mut probation, true), "wait");
    probation.delivered(tag(2), delivery("b"));
    let waits = probation.step(true, false, name);
    assert_eq!(told(&waits), "wait", "nothing is begun while it drains");
    assert_eq!(probation.pending(), 1);
    probation.clear();
    assert_eq!(probation.pending(), 0);
}
