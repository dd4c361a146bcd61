//! WhatsApp message → event. Pure: values in, values out.

mod draft;

pub use draft::{AttachmentMeta, Draft, Quoted};
