//! What people and programs send that is no attack, however it looks.

use super::*;

#[test]
fn ordinary_requests_pass() {
    let browser = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";
    let headers = [
        ("host", "api.example.com"),
        ("user-agent", browser),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"),
        ("referer", "https://www.example.com/search?q=shoes&page=2"),
        ("cookie", "session=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln; theme=dark; _ga=GA1.2.3.4"),
        ("content-type", "application/json"),
    ];
    for target in [
        "/",
        "/items/7?sort=name&order=asc&page=2",
        "/search?q=O%27Brien%20and%20sons",
        "/search?q=select%20a%20size%20from%20the%20list",
        "/search?q=drop%20shipping%20or%20pick-up",
        "/cb?redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb%3Fa%3Db&state=af0ifjsldkj",
        "/items?filter=price%3E10%20and%20price%3C20",
        "/a?id=550e8400-e29b-41d4-a716-446655440000&t=2026-11-29T20:00:00Z",
        "/v1/users/ada@example.com/mail",
        "/odata/Customers('ALFKI')/Orders(1)?$filter=Price%20gt%205",
        "/odata/Customers(Name='O''Brien',City='Berlin')",
        "/people/O%27Brien%20and%20Sons;lang=en/2026-11-29--news",
        "/maps/@52.5,13.4,12z/data=!3m1!4b1",
        "/tags/c%23/a+b/50%25%20off/(new)",
        "/wiki/C++_(programming_language)",
    ] {
        clean(target, &headers, "");
    }
    for (name, value) in [
        ("user-agent", "curl/8.5.0"),
        ("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
        ("user-agent", "Dalvik/2.1.0 (Linux; U; Android 9; SM-G960F Build/PPR1.180610.011)"),
        ("user-agent", "okhttp/4.9.0"),
        ("x-forwarded-for", "192.0.2.1, 2001:db8::1"),
        ("forwarded", "for=\"[2001:db8::1]:4711\";proto=https;by=203.0.113.43, for=198.51.100.17"),
        ("x-forwarded-host", "a.example:8443"),
        ("referer", "https://www.example.com/search?q=O%27Brien+and+sons&x=(a)&utm_source=a-b--c#top"),
        ("from", "Ada O'Neil <ada@example.com>"),
    ] {
        clean("/", &[(name, value)], "");
    }
    for text in [
        "Please call me; I am at home & waiting.",
        "100% cotton -- new",
        "It's 5 o'clock (or so), isn't it?",
        "Line one\r\nLine two: with a colon\r\nLine three",
        "Terms & conditions; see section 3.2 | 4.1",
        "if (a > b) { return c; }",
        "<b>bold</b> and <a href=\"https://example.com\">a link</a>",
        "C'est l'été; voilà",
        "price = $100 {discount: 20%}",
        "wait......what",
        "....what",
        "see ./README.md; \"docs/...\" is for later",
        "set the date; it's `Display` or 'who|what'",
        "id",
        "true",
        "usr/bin",
        "the dir c: of this host",
        "I don't; you can't & won't",
        "query Q($id: ID!, $where: users_bool_exp!, $in: [uuid!], $not: Boolean = true) { users(where: $where) { id } }",
        "SGVsbG8gd29ybGQsIHRoaXMgaXMgZmluZQ==",
        "price between 10 and 20",
        "count(items)",
        "max(10)",
        "cast (vote)",
        "round(3.5)",
        "date(2020)",
        "char (acter)",
        "style=modern",
        "style = bold",
        "__init__",
        "see __init__.py and __main__.py",
        "if (a < b && c > d)",
        "the dogs' -- and cats",
        "O'Brien -- of Dublin",
        "'quoted' -- and more",
        "10 and 20",
        "call me (maybe) and bring 2",
        "left or right (2)",
        "select a size from the list",
        "www.example.com",
        "com.example.shop.Basket",
        "org.example.Class",
        "1.2.3-rc.4",
        "x = 1 # a comment",
        "- [ ] buy 2 or 3 apples",
        "the class.name of a node",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
        "configuration",
        "'#fff'",
        "\"--help\"",
        "'# heading'",
        "'/* comment */'",
        "James' #1 fan",
        "12\" -- vinyl",
        "Hans' -- he's fine",
        "the Beatles'-- best",
        "dogs'#1",
        "the 90s'#music",
        "SomeLongCamelCaseName",
    ] {
        clean("/items", &headers, &serde_json::json!({ "text": text }).to_string());
    }
}
