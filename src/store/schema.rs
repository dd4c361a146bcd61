//! The tables, and how older files become newer ones.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::writer::BUSY;
use crate::account::private_file;

/// One step a schema version; `user_version` counts the steps that a file has taken. Steps are never changed.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('store_id', lower(hex(randomblob(8))));

    CREATE TABLE peer (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        public_id TEXT NOT NULL UNIQUE,
        route TEXT NOT NULL,
        push_name TEXT,
        last_inbound INTEGER
    ) STRICT;
    CREATE TABLE alias (address TEXT PRIMARY KEY, peer INTEGER NOT NULL REFERENCES peer) STRICT, WITHOUT ROWID;
    CREATE INDEX alias_peer ON alias (peer);

    CREATE TABLE inbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        chat INTEGER NOT NULL REFERENCES peer,
        sender INTEGER NOT NULL REFERENCES peer,
        stanza TEXT NOT NULL,
        event_id TEXT NOT NULL,
        route TEXT NOT NULL,
        timestamp INTEGER NOT NULL,
        push_name TEXT,
        draft TEXT,
        raw BLOB,
        state INTEGER NOT NULL DEFAULT 0,
        verdict TEXT,
        emission INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        lost_turns INTEGER NOT NULL DEFAULT 0,
        context_of INTEGER,
        UNIQUE (chat, stanza, sender)
    ) STRICT;
    CREATE INDEX inbox_open ON inbox (state, id) WHERE state IN (0, 1, 4, 5);
    CREATE INDEX inbox_sender ON inbox (sender);
    CREATE INDEX inbox_event ON inbox (event_id);
    CREATE INDEX inbox_context ON inbox (chat, id) WHERE state = 7;
    CREATE INDEX inbox_context_of ON inbox (context_of) WHERE context_of IS NOT NULL;

    CREATE TABLE ingress (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        mode TEXT NOT NULL,
        began INTEGER NOT NULL,
        proven INTEGER NOT NULL DEFAULT 0,
        written INTEGER NOT NULL DEFAULT 0,
        received INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE emission (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        session INTEGER NOT NULL REFERENCES ingress,
        event INTEGER NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX emission_session ON emission (session, number);
    CREATE INDEX emission_event ON emission (event);

    CREATE TABLE request (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        idempotency_key TEXT UNIQUE,
        content_hash TEXT NOT NULL,
        chat INTEGER NOT NULL REFERENCES peer,
        reply_chat INTEGER REFERENCES peer,
        reply_stanza TEXT,
        reply_emission INTEGER,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX request_chat ON request (chat);
    CREATE INDEX request_reply ON request (reply_chat, reply_stanza) WHERE reply_stanza IS NOT NULL;
    CREATE TABLE part (
        pos INTEGER PRIMARY KEY AUTOINCREMENT,
        message_id TEXT NOT NULL UNIQUE,
        request INTEGER NOT NULL REFERENCES request,
        chat INTEGER NOT NULL REFERENCES peer,
        kind TEXT NOT NULL,
        payload BLOB,
        state INTEGER NOT NULL DEFAULT 0,
        open INTEGER NOT NULL DEFAULT 1,
        attempts INTEGER NOT NULL DEFAULT 0,
        error TEXT,
        sent INTEGER
    ) STRICT;
    CREATE INDEX part_open ON part (chat, pos) WHERE open = 1;
    CREATE INDEX part_request ON part (request, pos);
    CREATE INDEX part_trouble ON part (state) WHERE state IN (2, 4, 8);
", "
    ALTER TABLE inbox ADD COLUMN stored INTEGER;
", "
    -- SQLite uses a partial index only where the query repeats its condition word for word.
    DROP INDEX inbox_open;
    CREATE INDEX inbox_waiting ON inbox (id) WHERE state = 0;
    CREATE INDEX inbox_unproven ON inbox (emission) WHERE state = 1;
    CREATE INDEX inbox_trouble ON inbox (state) WHERE state IN (4, 5);
    CREATE INDEX ingress_proven ON ingress (proven);
", "
    CREATE TABLE pending (
        chat TEXT NOT NULL,
        sender TEXT NOT NULL,
        stanza TEXT NOT NULL,
        message BLOB,
        since INTEGER NOT NULL,
        asked INTEGER NOT NULL DEFAULT 0,
        asked_at INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (chat, sender, stanza)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX pending_since ON pending (since);
", "
    CREATE TABLE known_group (
        address TEXT PRIMARY KEY,
        info TEXT NOT NULL,
        fetched INTEGER NOT NULL,
        stale INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE member (
        chat TEXT NOT NULL,
        address TEXT NOT NULL,
        other TEXT,
        admin INTEGER NOT NULL,
        PRIMARY KEY (chat, address)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX member_other ON member (chat, other);
", "
    ALTER TABLE alias ADD COLUMN former INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE number (
        phone TEXT PRIMARY KEY,
        asked INTEGER,
        registered INTEGER,
        holder TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX number_asked ON number (asked);
    CREATE INDEX number_holder ON number (phone) WHERE holder IS NOT NULL;
", "
    ALTER TABLE part ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX part_own ON part (chat, pos) WHERE own = 1 AND state = 3;
", "
    ALTER TABLE peer ADD COLUMN timer INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE peer ADD COLUMN read_upto INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX inbox_raw ON inbox (length(raw)) WHERE raw IS NOT NULL;
    CREATE INDEX part_payload ON part (length(payload)) WHERE payload IS NOT NULL;
", "
    -- One row a vote: \"message\" is the vote's row in the inbox, \"poll\" the poll's there or, if sent, in \"part\".
    CREATE TABLE vote (
        message INTEGER PRIMARY KEY,
        sent INTEGER NOT NULL,
        poll INTEGER NOT NULL,
        voter INTEGER NOT NULL REFERENCES peer,
        at INTEGER NOT NULL,
        options TEXT NOT NULL
    ) STRICT;
    CREATE INDEX vote_poll ON vote (sent, poll, at, message);
    CREATE INDEX vote_voter ON vote (voter);
    -- Votes go with their poll.
    CREATE TRIGGER vote_inbox AFTER DELETE ON inbox BEGIN DELETE FROM vote WHERE sent = 0 AND poll = old.id; END;
    CREATE TRIGGER vote_part AFTER DELETE ON part BEGIN DELETE FROM vote WHERE sent = 1 AND poll = old.pos; END;
", "
    -- Whom the operator has let in, by each address that was theirs then.
    CREATE TABLE approval (
        address TEXT PRIMARY KEY,
        person TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE pairing (
        peer INTEGER PRIMARY KEY REFERENCES peer,
        code TEXT NOT NULL UNIQUE,
        expires INTEGER NOT NULL,
        denied INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    ALTER TABLE inbox ADD COLUMN trace TEXT;
    ALTER TABLE inbox ADD COLUMN held INTEGER;
    CREATE INDEX inbox_held ON inbox (sender, held) WHERE state = 8;
    ALTER TABLE peer ADD COLUMN answered INTEGER NOT NULL DEFAULT 0;
    -- What never got into the inbox, and why.
    CREATE TABLE dropped (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        stanza TEXT NOT NULL,
        chat TEXT NOT NULL,
        sender TEXT NOT NULL,
        at INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    CREATE INDEX dropped_stanza ON dropped (stanza);
", "
    -- The hashes of the options that the poll did not have when it was made.
    ALTER TABLE vote ADD COLUMN later TEXT NOT NULL DEFAULT '[]';
    -- One row an option that a message added to the poll of this id in its chat.
    CREATE TABLE poll_option (message INTEGER PRIMARY KEY, target TEXT NOT NULL, name TEXT NOT NULL) STRICT;
    CREATE INDEX poll_option_target ON poll_option (target, message);
    CREATE TRIGGER poll_option_inbox AFTER DELETE ON inbox BEGIN DELETE FROM poll_option WHERE message = old.id; END;
    -- Votes and answers whose poll or event is not here yet, by its id.
    CREATE TABLE sealed (message INTEGER PRIMARY KEY, target TEXT NOT NULL) STRICT;
    CREATE INDEX sealed_target ON sealed (target, message);
    CREATE TRIGGER sealed_inbox AFTER DELETE ON inbox BEGIN DELETE FROM sealed WHERE message = old.id; END;
    CREATE INDEX inbox_sealed ON inbox (stored) WHERE state = 11;
", "
    -- The file that a message waits for, by its name among the staged ones.
    ALTER TABLE part ADD COLUMN file TEXT;
    CREATE INDEX part_file ON part (open, file) WHERE file IS NOT NULL;
    CREATE TABLE uploaded (
        sha256 BLOB NOT NULL,
        media TEXT NOT NULL,
        at INTEGER NOT NULL,
        url TEXT NOT NULL,
        direct_path TEXT NOT NULL,
        media_key BLOB NOT NULL,
        keyed INTEGER NOT NULL,
        enc_sha256 BLOB NOT NULL,
        length INTEGER NOT NULL,
        sidecar BLOB,
        PRIMARY KEY (sha256, media)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX uploaded_at ON uploaded (at);
", "
    CREATE TABLE media (
        sha256 BLOB PRIMARY KEY,
        place TEXT NOT NULL,
        size INTEGER NOT NULL,
        kind TEXT NOT NULL,
        mime_type TEXT,
        name TEXT,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX media_at ON media (at, size);
    CREATE TABLE attachment (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        message INTEGER NOT NULL,
        nth INTEGER NOT NULL,
        sha256 BLOB NOT NULL,
        kind TEXT NOT NULL,
        mime_type TEXT,
        name TEXT,
        size INTEGER,
        direct_path TEXT NOT NULL,
        key BLOB,
        enc_sha256 BLOB,
        view_once INTEGER NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        next INTEGER NOT NULL DEFAULT 0,
        UNIQUE (message, nth)
    ) STRICT;
    CREATE INDEX attachment_sha256 ON attachment (sha256);
    CREATE INDEX attachment_wanted ON attachment (next) WHERE state = 1;
    CREATE TRIGGER attachment_inbox AFTER DELETE ON inbox BEGIN DELETE FROM attachment WHERE message = old.id; END;
", "
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
", "
    -- Of an edit, what it changes.
    ALTER TABLE inbox ADD COLUMN edits TEXT;
    UPDATE inbox SET edits = json_extract(draft, '$.target_message_id')
        WHERE iif(json_valid(draft), json_extract(draft, '$.event_type') = 'message.edited', 0);
    CREATE INDEX inbox_edits ON inbox (chat, edits, id) WHERE edits IS NOT NULL;
    CREATE INDEX part_edit ON part (chat, pos) WHERE kind = 'edit';
", "
    -- What a storage key says: of an attachment, not of a content, and nobody can guess it.
    ALTER TABLE attachment ADD COLUMN token BLOB;
    UPDATE attachment SET token = randomblob(16);
    CREATE UNIQUE INDEX attachment_token ON attachment (token);
", "
    -- What was left out, and whether the file is on the disk beyond a power cut.
    ALTER TABLE request ADD COLUMN degraded TEXT;
    ALTER TABLE part ADD COLUMN synced INTEGER NOT NULL DEFAULT 0;
", "
    -- Whose file it is, and when its turn comes among those of other chats.
    ALTER TABLE attachment ADD COLUMN chat INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attachment ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
    UPDATE attachment SET chat = coalesce((SELECT chat FROM inbox WHERE id = message), 0);
    CREATE INDEX attachment_turn ON attachment (turn) WHERE state = 1;
    CREATE INDEX attachment_chat ON attachment (chat, turn) WHERE state = 1;
", "
    -- Up to where a chat is to be marked as read; beyond \"read_upto\" until it is.
    ALTER TABLE peer ADD COLUMN read_due INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX peer_read_due ON peer (read_due) WHERE read_due > read_upto;
", "
    -- What may lie in an object store and belongs to no file.
    CREATE TABLE remains (place TEXT PRIMARY KEY, upload TEXT) STRICT, WITHOUT ROWID;
    CREATE INDEX media_place ON media (place);
", "
    -- Of a chat: when its burst is whole again, and how it began (0 not yet, 1 by them, else when we wrote first).
    ALTER TABLE peer ADD COLUMN pace INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE peer ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;
    UPDATE peer SET opened = 1 WHERE last_inbound IS NOT NULL OR key IN (SELECT chat FROM part WHERE attempts > 0);
    CREATE INDEX peer_opened ON peer (opened) WHERE opened > 1;
    -- Whether a message has taken its place within the limits, and which.
    ALTER TABLE part ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
    UPDATE part SET place = 1 WHERE attempts > 0;
", "
    -- Below 0: when we wrote first and WhatsApp refused it.
    CREATE INDEX peer_refused ON peer (opened) WHERE opened < 0;
", "
    -- What expired is counted too.
    DROP INDEX part_trouble;
    CREATE INDEX part_trouble ON part (state) WHERE state IN (2, 4, 8, 9);
", "
    -- An object has one row, without the number of an upload, and each upload in parts that may have left something.
    ALTER TABLE remains RENAME TO remains_before;
    CREATE TABLE remains (place TEXT NOT NULL, upload TEXT NOT NULL DEFAULT '', PRIMARY KEY (place, upload))
        STRICT, WITHOUT ROWID;
    INSERT INTO remains SELECT place, '' FROM remains_before;
    INSERT INTO remains SELECT place, upload FROM remains_before WHERE upload IS NOT NULL;
    DROP TABLE remains_before;
", "
    ALTER TABLE alias ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
", "
    -- In groups: who sent it, as the message's stanza has them.
    ALTER TABLE attachment ADD COLUMN author TEXT;
", AUTHORS];

/// Of messages that came to groups before it was kept who sent them as their stanzas have them: as the group has its
/// members, else as they were met last.
pub(super) const AUTHORS: &str = "
    UPDATE attachment SET author = (SELECT coalesce((SELECT m.address FROM member m JOIN alias a ON a.address = m.address
            WHERE m.chat = i.route AND a.peer = i.sender), p.route)
        FROM inbox i JOIN peer p ON p.key = i.sender WHERE i.id = attachment.message AND i.chat <> i.sender)
    WHERE author IS NULL;
";

/// Opens or creates the file and brings its schema up to date.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    create_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn =
        Connection::open_with_flags(path, flags).map_err(|e| StoreError::from_sqlite(path, &e))?;
    prepare(&conn, path).map_err(|e| match e {
        Refused::Sqlite(e) => StoreError::from_sqlite(path, &e),
        Refused::Store(e) => e,
    })?;
    Ok(conn)
}

/// Another connection to a file that is open already, for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        // Not read-only for SQLite: a reader takes part in the book-keeping of the write-ahead log.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(Duration::from_secs(10))?;
        conn.pragma_update(None, "query_only", "ON")?;
        // KiB: what is looked up is small.
        conn.pragma_update(None, "cache_size", -512)?;
        conn.set_prepared_statement_cache_capacity(32);
        Ok(conn)
    };
    open().map_err(|error| StoreError::from_sqlite(path, &error))
}

enum Refused {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn prepare(conn: &Connection, path: &Path) -> Result<(), Refused> {
    conn.busy_timeout(BUSY)?;
    let known = MIGRATIONS.len() as i64;
    // Before anything is written: a newer file stays untouched, its journal mode too.
    check_version(conn, path, known)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // An event that was acknowledged to WhatsApp, and a message id that went out, survive a power cut.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", "ON")?;
    // What is erased here was written by people who were refused; it must not linger in free pages.
    conn.pragma_update(None, "secure_delete", "ON")?;
    conn.set_prepared_statement_cache_capacity(128);
    conn.execute_batch("BEGIN IMMEDIATE")?;
    // Once more under the lock: another process may have migrated it in between.
    let found = check_version(conn, path, known)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        conn.execute_batch(step)?;
    }
    if found < known {
        conn.pragma_update(None, "user_version", known)?;
    }
    conn.execute_batch("COMMIT")?;
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    Ok(check(conn, path, length)?)
}

/// Looks at a file without changing it: whether it could be used.
pub(super) fn look(path: &Path) -> Result<(), StoreError> {
    if !path.is_file() {
        return Ok(());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn =
        Connection::open_with_flags(path, flags).map_err(|e| StoreError::from_sqlite(path, &e))?;
    check_version(&conn, path, MIGRATIONS.len() as i64).map_err(|e| match e {
        Refused::Sqlite(e) => StoreError::from_sqlite(path, &e),
        Refused::Store(e) => e,
    })?;
    check(&conn, path, 0)
}

/// Up to this size a file is checked as a whole whenever it is opened: some 20 ms. In a larger one damage shows when
/// it is met.
const CHECKED: u64 = 16 << 20;

/// Looks for damage in a file of this length.
pub(super) fn check(conn: &Connection, path: &Path, length: u64) -> Result<(), StoreError> {
    if length > CHECKED {
        return Ok(());
    }
    match is_sound(conn) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::Corrupt {
            path: path.to_owned(),
        }),
        Err(e) => Err(StoreError::from_sqlite(path, &e)),
    }
}

/// Whether the pages of a database agree with each other.
fn is_sound(conn: &Connection) -> rusqlite::Result<bool> {
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok(found == "ok")
}

fn check_version(conn: &Connection, path: &Path, known: i64) -> Result<i64, Refused> {
    let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(Refused::Store(StoreError::TooNew {
            path: path.to_owned(),
            found,
            known,
        }));
    }
    Ok(found)
}

/// SQLite creates files as the umask says and gives a journal the mode of its database.
fn create_private(path: &Path) -> Result<(), StoreError> {
    private_file(path).map(drop).map_err(|e| match e.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full {
            path: path.to_owned(),
        },
        _ => StoreError::Failed {
            path: path.to_owned(),
            detail: e.to_string(),
        },
    })
}
