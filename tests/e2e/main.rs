//! The plugin as a process: over real pipes, against the loopback server, killed by real signals. One binary, since one is
//! linked sooner than thirty and has no stragglers of thirty to wait for.

mod common;

mod access;
mod actions;
mod again;
mod by_key;
mod bypass;
mod commands;
mod crash;
mod deliver;
mod disk;
mod downloads;
mod events;
mod explain;
mod forwards;
mod groups;
mod identity;
mod ingress;
mod kinds;
mod large;
mod link;
mod manners;
mod media_groups;
mod media_in;
mod media_kinds;
mod media_out;
mod object_store;
mod object_store_odds;
mod operator;
mod owner;
mod pacing;
mod poll;
mod polls;
mod probe;
mod reads;
mod state;
mod table;
mod tidying;
mod uploads;
mod wire;
