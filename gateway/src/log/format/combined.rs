//! The combined log format of Apache and nginx:
//! `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"` (<https://httpd.apache.org/docs/2.4/logs.html#combined>).

use http::header;

use super::{
    parts::{Headers, Part},
    place::Place,
};
use crate::settings::access_log::Field;

pub(super) fn parts(headers: &mut Headers) -> Box<[Part]> {
    let text = |text: &str| Part::Text(text.into());
    Box::new([
        Part::Plain(Place::Field(Field::Client)),
        text(" - "),
        Part::Plain(Place::Field(Field::Principal)),
        text(" ["),
        Part::Plain(Place::Field(Field::TimeClf)),
        text("] \""),
        Part::Quoted(Place::ClfRequest),
        text("\" "),
        Part::Plain(Place::ClfStatus),
        text(" "),
        Part::Plain(Place::ClfBytes),
        text(" \""),
        Part::Quoted(headers.of_request(&header::REFERER)),
        text("\" \""),
        Part::Quoted(headers.of_request(&header::USER_AGENT)),
        text("\""),
    ])
}
