//! `jatis migrate` brings a schema up to date, and says beforehand what it would do.

use crate::harness::{Database, Ran, Stack};

#[tokio::test]
async fn migrate_makes_a_missing_database_once_and_its_check_makes_nothing() {
    let stack = Stack::start().await;
    let (name, url) = stack.spare_database();

    let foreseen = migrate(&stack, &url, &["--check"]).expect(3);
    let would = format!("would create the database {name}\nwould apply V1__first_release");
    assert!(foreseen.out.starts_with(&would), "{foreseen:?}");
    assert!(!stack.has_database(&name).await);

    let done = migrate(&stack, &url, &[]).expect(0);
    let did = format!("created the database {name}\napplied V1__first_release");
    assert!(done.out.starts_with(&did), "{done:?}");
    assert!(stack.has_database(&name).await);

    for arguments in [&["--check"][..], &[]] {
        let repeated = migrate(&stack, &url, arguments).expect(0);
        assert!(
            repeated.out.starts_with("the schema is up to date"),
            "{repeated:?}"
        );
    }
    stack.finish().await;
}

#[tokio::test]
async fn the_schema_of_a_later_jatis_is_refused_and_left_alone() {
    let stack = Stack::start().await;
    let (_, url) = stack.spare_database();
    migrate(&stack, &url, &[]).expect(0);
    let database = Database::open(&url).await;
    let tables = database.tables().await;

    database.note_migration(1000).await;
    for verb in [&["migrate"][..], &["migrate", "--check"], &["serve"]] {
        let refused = jatis(&stack, &url, verb).expect(1);
        let told = refused.err.contains("schema version 1000");
        assert!(told && refused.err.contains("a later jatis"), "{refused:?}");
    }
    assert_eq!(database.tables().await, tables);
    stack.finish().await;
}

#[tokio::test]
async fn migrate_waits_for_whoever_changes_the_schema_and_says_so_when_it_takes_too_long() {
    let stack = Stack::start().await;
    let (_, url) = stack.spare_database();
    migrate(&stack, &url, &[]).expect(0);
    let database = Database::open(&url).await;

    let another = database.lock_schema().await;
    let impatient = ["--set", "database.lock_timeout=100ms"];
    let refused = migrate(&stack, &url, &impatient).expect(1);
    assert!(refused.err.contains("a lock was in the way"), "{refused:?}");
    // Looking disturbs nobody, and waits for nobody.
    migrate(&stack, &url, &["--check"]).expect(0);

    another.release().await;
    migrate(&stack, &url, &impatient).expect(0);
    stack.finish().await;
}

fn migrate(stack: &Stack, url: &str, arguments: &[&str]) -> Ran {
    jatis(stack, url, &[&["migrate"], arguments].concat())
}

/// Runs `jatis` on another database than the stack's.
fn jatis(stack: &Stack, url: &str, words: &[&str]) -> Ran {
    let (verb, arguments) = words.split_first().expect("a verb comes first");
    let url = format!("database.url={url}");
    stack.jatis(verb, &[arguments, &["--set", &url]].concat())
}
