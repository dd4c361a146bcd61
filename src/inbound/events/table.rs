//! The decision for each kind of event of the library.

use wacore::types::events::EventKind;

/// What becomes of a kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Told as a message is, of every family that messages have.
    Message,
    /// Told to those who ask for the family in `events`; the types that it has there.
    OptIn {
        /// The family.
        family: &'static str,
        /// The event types, with commas.
        types: &'static str,
    },
    /// The plugin itself acts on it, or the library does; there is nothing to tell.
    Internal,
    /// Not told, for the reason given.
    Dropped,
}

macro_rules! decision {
    (message) => {
        Decision::Message
    };
    (internal) => {
        Decision::Internal
    };
    (dropped) => {
        Decision::Dropped
    };
    ($family:ident $types:literal) => {
        Decision::OptIn {
            family: stringify!($family),
            types: $types,
        }
    };
}

macro_rules! events {
    ($($kind:ident: $how:ident $($types:literal)?, $note:literal;)*) => {
        /// Every kind of event, what becomes of it, and what it is or why it is not told.
        pub static EVENTS: &[(EventKind, Decision, &str)] =
            &[$((EventKind::$kind, decision!($how $($types)?), $note)),*];
    };
}

events! {
    Messages: message, "messages; see messages.md";
    UndecryptableMessage: undecryptable "message.undecryptable", "a message that this device could not decrypt, unless its sender wants a failure hidden";
    Receipt: receipt "receipt.delivered, receipt.read, receipt.played", "what became of a message of ours; it also moves the state of the outbox. Receipts between devices and requests to send again are not told";
    ServerAck: internal, "the server took or refused what we sent: the outbox";
    GroupUpdate: group "group.added, group.removed, group.left, group.joined, group.promoted, group.demoted, group.number_changed, group.subject_changed, group.description_changed, group.settings_changed, group.join_requested, group.join_request_withdrawn, group.invite_revoked, group.created, group.deleted, group.linked, group.unlinked, group.suspended, group.unsuspended, group.suggested, group.suggestion_withdrawn, group.changed", "a change of a group";
    PictureUpdate: contact "contact.picture_changed, contact.picture_removed, group.picture_changed, group.picture_removed", "a picture of a person or a group; a group's is of the family `group`";
    UserAboutUpdate: contact "contact.about_changed", "another about text";
    ContactNumberChanged: contact "contact.number_changed", "another phone number; it also keeps the person's identity together";
    ContactUpdate: contact "contact.saved", "another name in the owner's address book";
    PushNameUpdate: contact "contact.name_changed", "another name of their own choice";
    IdentityChange: contact "contact.identity_changed", "a new phone, or WhatsApp installed anew";
    BusinessStatusUpdate: contact "contact.business_changed", "a business's name, profile or catalogue";
    DisappearingModeChanged: contact "contact.disappearing_mode_changed", "how long messages of new chats with them last";
    IncomingCall: call "call.incoming, call.accepted, call.declined, call.ended", "a call rings or ends; the negotiation of its media is not told";
    MissedCall: call "call.missed", "a call that nobody took";
    CallEndedElsewhere: call "call.answered_elsewhere, call.declined_elsewhere, call.ended_elsewhere", "the owner dealt with a call on another device";
    ChatPresence: presence "presence.composing, presence.recording, presence.paused", "somebody types or records";
    Presence: presence "presence.available, presence.unavailable", "somebody came or went";
    Connected: connection "connection.connected", "logged in";
    Disconnected: connection "connection.disconnected", "the connection is gone";
    LoggedOut: connection "connection.logged_out", "the device was unlinked; it also ends the session";
    StreamReplaced: connection "connection.replaced", "another connection took over; it also ends the session";
    TemporaryBan: connection "connection.banned", "the account may not be used for a while; nothing is tried until it ends";
    ClientOutdated: connection "connection.outdated", "the version is no longer accepted; it also ends the session";
    ConnectFailure: connection "connection.refused", "the server refused the login";
    StreamError: connection "connection.failed", "the server ended the stream";
    PairSuccess: internal, "linking";
    PairError: internal, "linking";
    PairingQrCode: internal, "linking";
    PairingCode: internal, "linking";
    PairingCodeRefresh: internal, "linking";
    PairingCodeError: internal, "linking";
    PairingQrCodesExhausted: internal, "linking";
    QrScannedWithoutMultidevice: internal, "linking";
    PairPasskeyRequest: internal, "linking";
    PairPasskeyConfirmation: internal, "linking";
    PairPasskeyError: internal, "linking";
    SelfPushNameUpdated: internal, "our own name, for mentions of us";
    OfflineSyncPreview: internal, "how much waits at the server";
    OfflineSyncCompleted: internal, "what waited has come";
    DeviceListUpdate: internal, "whom the library encrypts for";
    ContactUpdated: internal, "the library's caches; it says of whom, not what changed";
    ContactSyncRequested: internal, "the library's caches";
    DirtyState: internal, "the library's caches";
    AppStateSyncFailed: internal, "settings of the account that did not come; for the log";
    HistorySync: dropped, "what was said before the link; history is skipped";
    PinUpdate: dropped, "the owner tidies the list of chats on the phone; it says nothing to an agent";
    MuteUpdate: dropped, "likewise: a chat muted";
    ArchiveUpdate: dropped, "likewise: a chat archived";
    StarUpdate: dropped, "likewise: a message starred";
    MarkChatAsReadUpdate: dropped, "likewise: a chat marked read or unread";
    DeleteChatUpdate: dropped, "likewise: a chat deleted for the owner alone; what the inbox has stays";
    ClearChatUpdate: dropped, "likewise: a chat emptied for the owner alone";
    DeleteMessageForMeUpdate: dropped, "likewise: a message deleted for the owner alone";
    UserStatusMuteUpdate: dropped, "likewise: somebody's status muted";
    LabelEditUpdate: dropped, "likewise: a business's labels";
    LabelAssociationUpdate: dropped, "likewise: a business's labels";
    NewsletterLiveUpdate: dropped, "counts of reactions in channels, by nobody in particular";
    Notification: dropped, "a notification as it came; what is known of it comes as an event of its own";
    RawNode: dropped, "every stanza as it came, for debugging the library";
    MexNotification: dropped, "notices of the server's own interface, with no stable form";
}
