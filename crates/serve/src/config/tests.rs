//! The example file, the defaults, and values that are refused.

use super::*;

fn problem(text: &str) -> String {
    Config::parse(text).expect_err(text).to_string()
}

#[test]
fn the_example_has_every_key_with_its_default() {
    assert_eq!(Config::parse(Config::EXAMPLE).expect("the example"), Config::default());
    assert_eq!(Config::parse("").expect("nothing"), Config::default());
    // Keys without a default value stand in a comment, as an assignment that can be uncommented.
    let commented =
        Config::EXAMPLE.lines().filter(|line| !line.starts_with("# ") || line.starts_with("# public_url = "));
    let whole = commented.map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join("\n");
    let config = Config::parse(&whole).expect("the example with all keys");
    assert_eq!(config.public_url.as_deref(), Some("https://clips.example.org"));
    let keys = toml::Table::try_from(&config).expect("TOML");
    let written: toml::Table = whole.parse().expect("TOML");
    assert_eq!(keys, written, "a key is missing in the example");
}

#[test]
fn a_configuration_survives_being_written() {
    let networks = ["10.0.0.0/8", "::1"].map(|text| text.parse().expect("a network"));
    let webhook = Webhook { url: "http://10.0.0.1/x".into(), owner: Some("anna".into()) };
    let config = Config {
        public_url: Some("http://127.0.0.1:1".into()),
        kling_models: BTreeMap::from([("kling-v1".into(), "embedded".into())]),
        outgoing: Outgoing { fetch_pictures: true, allowed_networks: networks.to_vec() },
        webhooks: vec![webhook, Webhook { url: "https://a.org".into(), owner: None }],
        ..Config::default()
    };
    let text = toml::to_string(&config).expect("TOML");
    assert_eq!(Config::parse(&text).expect("read again"), config);
}

#[test]
fn unknown_keys_and_wrong_values_are_named() {
    for (text, part) in [
        ("prot = 1", "prot"),
        ("[tiers.free]\ncredit = 1", "credit"),
        ("port = 70000", "70000"),
        ("host = \"localhost\"", "IP address"),
        ("connections = 0", "`connections` is 0"),
        ("workers = 0", "`workers` is 0"),
        ("queue = -1", "-1 is below 0"),
        ("queue = \"many\"", "\"unlimited\""),
        ("queue = 9223372036854775808", "9223372036854775808"),
        ("time_zone = \"Mars\"", "`Mars`"),
        ("local_tier = \"gold\"", "`free`, `local`, `pro`"),
        ("default_model = \"x\"", "`embedded`"),
        ("extra_hosts = [\"a b\"]", "`a b`"),
        ("extra_hosts = [\"evil.test:0\"]", "`evil.test:0`"),
        ("public_url = \"ftp://a\"", "`ftp://a`"),
        ("public_url = \"https://a/b\"", "`https://a/b`"),
        ("[retention]\nclip_days = 0", "`retention.clip_days` is 0"),
        ("[prices]\nfast = []", "`prices.fast` is empty"),
        ("[kling_models]\nkling-v1 = \"x\"", "`x` for `kling-v1`"),
        ("[outgoing]\nallowed_networks = [\"10.0.0.0/99\"]", "`10.0.0.0/99`"),
        ("webhooks = [{url = \"https://a.org\", secret = \"x\"}]", "secret"),
        ("webhooks = [{url = \"http://10.0.0.1/x\"}]", "10.0.0.1 is not a public address"),
        ("[models]\n\"a/b\" = \"x\"\nembedded = \"embedded\"", "`a/b`"),
    ] {
        let problem = problem(text);
        assert!(problem.contains(part), "{text}: {problem}");
    }
    let tier = |running: &str, longest: &str| {
        let tier = format!("credits = 1\nrunning = {running}\nwaiting = 0\nstorage = 0\nlongest_seconds = {longest}");
        format!("local_tier = \"a\"\ndefault_tier = \"a\"\n[tiers.a]\n{tier}")
    };
    Config::parse(&tier("1", "5.0")).expect("a tier of one's own");
    assert!(problem(&tier("0", "5.0")).contains("`tiers.a.running` is 0"));
    for bad in ["0.0", "-1.0", "nan", "inf"] {
        assert!(problem(&tier("1", bad)).contains("`tiers.a.longest_seconds`"), "{bad}");
    }
}

#[test]
fn hosts_are_names_and_addresses() {
    for good in ["a", "clips.example.org", "10.0.0.1:80", "[::1]", "[::1]:7788", "localhost:65535"] {
        assert!(is_host(good), "{good}");
    }
    for bad in ["", ":80", "a:", "a:b", "a:65536", "[::1", "::1", "A.org", "a/b", "a@b", ".a", "[a]", "é"] {
        assert!(!is_host(bad), "{bad}");
    }
}

#[test]
fn prices_of_other_lengths_are_in_proportion_and_rounded_up() {
    let prices = Prices::default();
    let credits = |mode, seconds| prices.credits(mode, seconds).expect("a price");
    for (seconds, fast, quality) in [
        (5.0, 10, 35),
        (10.0, 20, 70),
        (2.5, 5, 18),
        (3.0, 6, 21),
        (7.0, 14, 49),
        (7.1, 15, 50),
        (5.0625, 11, 36),
        (20.0, 40, 140),
        (180.0, 360, 1260),
        (0.001, 1, 1),
    ] {
        assert_eq!((credits(Mode::Fast, seconds), credits(Mode::Quality, seconds)), (fast, quality), "{seconds} s");
    }
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert!(prices.credits(Mode::Fast, bad).is_err(), "{bad}");
    }
}

#[test]
fn a_table_that_does_not_rise_evenly_is_followed_between_its_prices() {
    let table = [(2, 10), (4, 10), (8, 20)].map(|(seconds, credits)| Price { seconds, credits });
    let prices = Prices { fast: table.to_vec(), ..Prices::default() };
    prices.check().expect("a good table");
    let credits = |seconds| prices.credits(Mode::Fast, seconds).expect("a price");
    assert_eq!([1.0, 2.0, 3.0, 4.0, 6.0, 6.1, 8.0, 16.0].map(credits), [5, 10, 10, 10, 15, 16, 20, 40]);
    for (seconds, credits, part) in [(8, 30, "order"), (9, 19, "less"), (0, 0, "0 s")] {
        let fast = [table.to_vec(), vec![Price { seconds, credits }]].concat();
        let error = Prices { fast, ..Prices::default() }.check().expect_err("a bad table").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn modes_have_the_names_of_others_too() {
    for (text, mode) in [("fast", Mode::Fast), ("std", Mode::Fast), ("quality", Mode::Quality), ("pro", Mode::Quality)]
    {
        assert_eq!(serde_json::from_value::<Mode>(text.into()).expect("a mode"), mode);
    }
    assert_eq!(serde_json::to_value(Mode::Quality).expect("text"), Mode::Quality.to_string());
}

#[test]
fn terms_are_those_of_the_tier_and_the_day() {
    let config = Config::parse("time_zone = \"+08:00\"").expect("a configuration");
    let terms = config.terms("free", 16 * 3_600_000).expect("a tier");
    assert_eq!((terms.day.0, terms.credits, terms.active, terms.queue), (1, Some(66), Some(6), Some(1000)));
    let local = config.terms(LOCAL, 0).expect("a tier");
    assert_eq!((local.day.0, local.credits, local.active, local.storage), (0, None, None, None));
    assert!(config.terms("gold", 0).expect_err("no tier").to_string().contains("`pro`"));
}

#[test]
fn retention_is_in_days() {
    let retention = Retention::default();
    assert_eq!(retention.clip_expires(1000), Some(30 * 86_400_000 + 1000));
    assert_eq!(retention.uploads_before(7 * 86_400_000), Some(0));
    let forever = Retention { clip_days: Limit::UNLIMITED, upload_days: Limit::UNLIMITED };
    assert_eq!((forever.clip_expires(1), forever.uploads_before(1)), (None, None));
}
