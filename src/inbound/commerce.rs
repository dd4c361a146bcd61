//! Products, orders and payments.

use waproto::buffa::Enumeration;
use waproto::whatsapp as wa;

use super::content::{Found, count, line, summary, time};
use super::{media, text};

/// A product of a catalogue.
pub(super) fn product(message: &wa::message::ProductMessage) -> Found<'_> {
    let product = &message.product;
    let currency = product.currency_code.as_deref();
    let price = product
        .price_amount1000
        .and_then(|n| amount(n, 1000, currency));
    let sale = product
        .sale_price_amount1000
        .and_then(|n| amount(n, 1000, currency));
    let details = [
        product
            .title
            .as_deref()
            .or(message.catalog.title.as_deref()),
        product
            .description
            .as_deref()
            .or(message.catalog.description.as_deref()),
        sale.as_deref().or(price.as_deref()),
        message.body.as_deref(),
    ];
    let mut draft = summary(line("Product", details));
    draft.set("product_id", product.product_id.as_ref());
    draft.set("product_title", product.title.as_ref());
    draft.set("product_price", price);
    draft.set("product_sale_price", sale);
    draft.set("product_retailer_id", product.retailer_id.as_ref());
    draft.set("product_url", product.url.as_ref());
    draft.set("business", message.business_owner_jid.as_ref());
    let picture = product.product_image.as_option();
    let picture = picture.or(message.catalog.catalog_image.as_option());
    draft.attachments.extend(picture.map(media::image_file));
    (draft, message.context_info.as_option())
}

/// An order.
pub(super) fn order(order: &wa::message::OrderMessage) -> Found<'_> {
    let items = count(order.item_count.unwrap_or(0).into(), "item");
    let currency = order.total_currency_code.as_deref();
    let total = order
        .total_amount1000
        .and_then(|n| amount(n, 1000, currency));
    let details = [
        order.order_title.as_deref(),
        items.as_deref(),
        total.as_deref(),
        order.message.as_deref(),
    ];
    let mut draft = summary(line("Order", details));
    draft.set("order_id", order.order_id.as_ref());
    draft.set("order_items", order.item_count);
    draft.set("order_total", total);
    let status = order.status.map(|status| status.proto_name());
    draft.set("order_status", status.map(str::to_ascii_lowercase));
    draft.set("business", order.seller_jid.as_ref());
    draft.set("order_token", order.token.as_ref());
    (draft, order.context_info.as_option())
}

/// An invoice.
pub(super) fn invoice(invoice: &wa::message::InvoiceMessage) -> Found<'_> {
    use wa::message::invoice_message::AttachmentType;
    let mut draft = summary(line("Invoice", [invoice.note.as_deref()]));
    if let Some(kind) = invoice.attachment_type {
        let kind = match kind {
            AttachmentType::IMAGE => "image",
            AttachmentType::PDF => "document",
        };
        let mime_type = invoice.attachment_mimetype.as_ref();
        draft
            .attachments
            .push(media::attachment(kind, mime_type, None));
    }
    (draft, None)
}

/// Money that was sent.
pub(super) fn payment(payment: &wa::message::SendPaymentMessage) -> Found<'_> {
    let (note, context) = noted(&payment.note_message);
    let draft = summary(line("Payment", [note]));
    (draft.about(&payment.request_message_key), context)
}

/// Money that is asked for.
pub(super) fn payment_request(request: &wa::message::RequestPaymentMessage) -> Found<'_> {
    let (note, context) = noted(&request.note_message);
    let asked = money(&request.amount).or_else(|| {
        let amount1000 = i64::try_from(request.amount1000?).ok()?;
        amount(amount1000, 1000, request.currency_code_iso4217.as_deref())
    });
    let mut draft = summary(line("Payment request", [asked.as_deref(), note]));
    draft.set("payment_amount", asked);
    draft.set("payment_from", request.request_from.as_ref());
    draft.set("payment_expires", time(request.expiry_timestamp));
    (draft, context)
}

fn noted(note: &wa::Message) -> (Option<&str>, Option<&wa::ContextInfo>) {
    match note.extended_text_message.as_option() {
        Some(long) => (long.text.as_deref(), text::extended(long).1),
        None => (note.conversation.as_deref(), None),
    }
}

/// A request that was refused.
pub(super) fn declined(declined: &wa::message::DeclinePaymentRequestMessage) -> Found<'_> {
    let draft = summary("Declined a payment request");
    (draft.about(&declined.key), None)
}

/// A request that was taken back.
pub(super) fn cancelled(cancelled: &wa::message::CancelPaymentRequestMessage) -> Found<'_> {
    let draft = summary("Took back a payment request");
    (draft.about(&cancelled.key), None)
}

/// An invitation to WhatsApp's payments.
pub(super) fn payment_invite(invite: &wa::message::PaymentInviteMessage) -> Found<'_> {
    let mut draft = summary("Invitation to payments in WhatsApp");
    let service = invite.service_type.map(|service| service.proto_name());
    draft.set("payment_service", service.map(str::to_ascii_lowercase));
    draft.set("invite_expires", time(invite.expiry_timestamp));
    (draft, None)
}

/// A reminder to pay.
pub(super) fn reminder(reminder: &wa::message::PaymentReminderMessage) -> Found<'_> {
    let sum = money(&reminder.amount);
    let details = [sum.as_deref(), reminder.description.as_deref()];
    let mut draft = summary(line("Payment reminder", details));
    draft.set("payment_amount", sum);
    draft.set("payment_from", reminder.payer_jid.as_ref());
    draft.set("payment_to", reminder.payee_jid.as_ref());
    let status = reminder.status.map(|status| status.proto_name());
    draft.set("payment_status", status.map(str::to_ascii_lowercase));
    let every = reminder.frequency.map(|frequency| frequency.proto_name());
    draft.set("payment_frequency", every.map(str::to_ascii_lowercase));
    (draft, None)
}

/// A bill that several share.
pub(super) fn split(bill: &wa::message::SplitPaymentMessage) -> Found<'_> {
    let total = money(&bill.total_amount);
    let details = [total.as_deref(), bill.description.as_deref()];
    let mut draft = summary(line("Split bill", details));
    draft.set("payment_amount", total);
    draft.set("payment_to", bill.requester_jid.as_ref());
    let shares: Vec<_> = bill
        .participants
        .iter()
        .map(|share| {
            let status = share.status.map(|s| s.proto_name().to_ascii_lowercase());
            serde_json::json!({"id": share.jid, "amount": money(&share.amount), "status": status})
        })
        .collect();
    if !shares.is_empty() {
        draft.set("payment_shares", Some(serde_json::Value::from(shares)));
    }
    (draft, bill.context_info.as_option())
}

fn money(money: &wa::Money) -> Option<String> {
    let divisor = money.offset.unwrap_or(1);
    amount(money.value?, divisor, money.currency_code.as_deref())
}

/// `1250` thousandths of `EUR` as `1.25 EUR`.
fn amount(value: i64, divisor: u32, currency: Option<&str>) -> Option<String> {
    let divisor = i64::from(divisor.max(1));
    let digits = divisor.ilog10() as usize;
    if 10_i64.pow(digits as u32) != divisor {
        return None;
    }
    let (whole, rest) = (value / divisor, (value % divisor).unsigned_abs());
    let sign = if value < 0 && whole == 0 { "-" } else { "" };
    let fraction = format!("{rest:0digits$}");
    // Thousandths are a unit of the wire; people write hundredths.
    let fraction = match fraction.strip_suffix('0') {
        Some(shorter) if digits > 2 => shorter,
        _ => &fraction,
    };
    let number = match digits {
        0 => format!("{value}"),
        _ => format!("{sign}{whole}.{fraction}"),
    };
    Some(match currency.filter(|currency| !currency.is_empty()) {
        Some(currency) => format!("{number} {currency}"),
        None => number,
    })
}
