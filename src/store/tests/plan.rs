//! No statement reads a whole table: what one costs must not grow with what the account has lived through. Every
//! statement that any test of the store runs is asked for its plan.

use rusqlite::Connection;

/// The tables that grow.
const GROW: [&str; 15] = [
    "inbox",
    "pending",
    "emission",
    "ingress",
    "request",
    "part",
    "peer",
    "alias",
    "known_group",
    "member",
    "number",
    "vote",
    "uploaded",
    "media",
    "attachment",
];

/// Statements of the sweep, which runs now and then and walks in the order of age, and of a merge: a person turns out
/// to be two peers once in a lifetime, and then the foreign keys are looked through.
/// A message to be forwarded, or explained, is looked for by its id alone, since nobody says which chat it is in.
const RARE: [&str; 11] = [
    "FROM inbox WHERE stanza = ?1",
    "sum(size)",
    "FROM media m WHERE (m.at",
    "SELECT place FROM media",
    "FROM remains r",
    "FROM inbox WHERE raw IS NOT NULL ORDER BY id",
    "FROM part WHERE payload IS NOT NULL AND open = 0",
    "DELETE FROM peer",
    "FROM inbox ORDER BY id LIMIT",
    "FROM request r WHERE r.created",
    "FROM ingress i WHERE i.began",
];

/// Panics if this statement scans a table that grows.
pub(in crate::store) fn check(conn: &Connection, sql: &str) {
    let plans = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    if !plans.iter().any(|verb| sql.starts_with(verb)) || RARE.iter().any(|part| sql.contains(part))
    {
        return;
    }
    if let Some(scan) = scan(conn, sql) {
        panic!("{scan}: {sql}");
    }
}

/// The step of the plan that reads a whole table.
fn scan(conn: &Connection, sql: &str) -> Option<String> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps: Vec<String> = explain
        .raw_query()
        .mapped(|row| row.get(3))
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    // A partial index holds few rows, and may be read to its end.
    let partial = |index: &str| {
        let sql = "SELECT count(*) FROM sqlite_master WHERE name = ?1 AND sql LIKE '% WHERE %'";
        conn.query_row(sql, [index], |row| row.get::<_, i64>(0))
            .unwrap()
            > 0
    };
    steps.into_iter().find(|step| {
        let words: Vec<&str> = step.split(' ').collect();
        words[0] == "SCAN"
            && GROW
                .iter()
                .any(|table| words[1] == *table || words[1] == &table[..1])
            && !words.last().is_some_and(|index| partial(index))
    })
}

#[test]
fn a_scan_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let conn = crate::store::schema::open(&dir.path().join("channel.db")).unwrap();
    let found = |sql| scan(&conn, sql).is_some();
    assert!(found("SELECT count(*) FROM part WHERE state = 2"));
    assert!(found("SELECT count(*) FROM inbox"));
    assert!(found("SELECT i.stanza FROM inbox i WHERE i.state = 2"));
    assert!(!found("SELECT id FROM inbox WHERE state = 0 ORDER BY id"));
}
