//! The settings that are one of a few words.

use super::read::words;

words! {
    /// Who may write to us in a direct chat.
    DmPolicy {
        /// Nobody.
        Deny = "deny",
        /// Who is listed.
        Allowlist = "allowlist",
        /// Who is listed, and strangers once the operator has approved their code.
        Pairing = "pairing",
        /// Everybody.
        Open = "open",
    }
}

words! {
    /// What a contact may do.
    Permission {
        /// Gets a fixed answer; never reaches the agent.
        Read = "read",
        /// Reaches the agent.
        Write = "write",
        /// Reaches the agent as an administrator.
        Admin = "admin",
    }
}

words! {
    /// Which messages of an allowed group are for the agent.
    GroupActivation {
        /// Those that name us, answer us or match a pattern.
        Mention = "mention",
        /// All.
        All = "all",
    }
}

words! {
    /// A family of inbound events.
    Family {
        /// New messages.
        Message = "message",
        /// Corrections of messages.
        MessageEdited = "message.edited",
        /// Messages deleted for everyone.
        MessageRevoked = "message.revoked",
        /// Reactions, put and taken back.
        Reaction = "reaction",
        /// Delivered, read and played receipts of our own messages.
        Receipt = "receipt",
        /// Votes in polls.
        PollVote = "poll_vote",
        /// Changes of groups.
        Group = "group",
        /// Calls.
        Call = "call",
        /// Presence and chatstate of others.
        Presence = "presence",
        /// Changes of contacts.
        Contact = "contact",
        /// Changes of our own connection.
        Connection = "connection",
        /// Messages that could not be decrypted.
        Undecryptable = "undecryptable",
    }
}

words! {
    /// Whether inbound media is fetched.
    Download {
        /// As it comes.
        Auto = "auto",
        /// Never: metadata only.
        None = "none",
    }
}

words! {
    /// How outbound text is written.
    TextFormat {
        /// Markdown, rendered to WhatsApp's markup.
        Markdown = "markdown",
        /// As it is.
        Plain = "plain",
    }
}

words! {
    /// When a typing indicator is shown.
    Typing {
        /// While an event is being handled, and on status frames.
        Auto = "auto",
        /// On status frames only.
        Status = "status",
        /// Never.
        Off = "off",
    }
}

words! {
    /// When a message is marked read.
    ReadReceipts {
        /// Never: the owner's phone keeps its unread badge.
        Off = "off",
        /// When it is emitted.
        Received = "received",
        /// When it is answered.
        Replied = "replied",
    }
}

words! {
    /// What others see of us.
    Presence {
        /// Unavailable, so that the owner's phone keeps ringing.
        Offline = "offline",
        /// Available.
        Online = "online",
    }
}

words! {
    /// What becomes of a message that cannot be sent as asked.
    DeliverErrors {
        /// It is answered as delivered, with the state in the metadata: an error would end the host's runtime.
        Degrade = "degrade",
        /// An error.
        Fail = "fail",
    }
}

words! {
    /// Who publishes the visible reply; passed on to the host.
    ReplyDelivery {
        /// The host's bridge.
        RuntimeOwned = "runtime_owned",
        /// A tool of the agent.
        ToolOwned = "tool_owned",
    }
}
