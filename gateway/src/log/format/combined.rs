//! The combined log format of Apache and nginx:
//! `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"` (<https://httpd.apache.org/docs/2.4/logs.html#combined>).

use http::header;

use super::{
    parts::{LoggedHeaders, TextPart},
    placeholder::Placeholder,
};
use crate::settings::access_log::Field;

pub(super) fn parts(headers: &mut LoggedHeaders) -> Box<[TextPart]> {
    let text = |text: &str| TextPart::Text(text.into());
    Box::new([
        TextPart::Plain(Placeholder::Field(Field::Client)),
        text(" - "),
        TextPart::Plain(Placeholder::Field(Field::Principal)),
        text(" ["),
        TextPart::Plain(Placeholder::Field(Field::TimeClf)),
        text("] \""),
        TextPart::Quoted(Placeholder::ClfRequest),
        text("\" "),
        TextPart::Plain(Placeholder::ClfStatus),
        text(" "),
        TextPart::Plain(Placeholder::ClfBytes),
        text(" \""),
        TextPart::Quoted(headers.of_request(&header::REFERER)),
        text("\" \""),
        TextPart::Quoted(headers.of_request(&header::USER_AGENT)),
        text("\""),
    ])
}
