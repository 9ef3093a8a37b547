//! The shop's shelves and its visitors: all invented.

pub(super) struct Product {
    pub(super) slug: &'static str,
    pub(super) title: &'static str,
    pub(super) cents: u64,
}

pub(super) struct Country {
    pub(super) code: &'static str,
    pub(super) currency: &'static str,
    pub(super) queries: &'static [&'static str],
}

const fn product(slug: &'static str, title: &'static str, cents: u64) -> Product {
    Product { slug, title, cents }
}

pub(super) const PRODUCTS: &[Product] = &[
    product("goldberg-variations-lp", "Goldberg Variations, 2 LP", 3_490),
    product("atlas-of-remote-rivers", "Atlas of Remote Rivers", 4_200),
    product("geraeusche-des-waldes", "Geräusche des Waldes", 1_999),
    product("petits-pains-perdus", "Petits pains perdus : recettes d’été", 2_450),
    product("yoru-no-densha", "夜の電車", 1_890),
    product("zimniy-sad", "Зимний сад", 1_250),
    product("el-faro-y-la-nina", "El faro y la niña", 1_499),
    product("kitab-al-bahr", "كتاب البحر", 1_699),
    product("mausam-ki-diary", "मौसम की डायरी", 899),
    product("sordino-for-strings", "Con sordino: studies for strings", 2_700),
    product("chen-jing-de-he", "沉静的河", 1_560),
    product("thalassa", "Θάλασσα", 1_320),
    product("fado-ao-vivo-lp", "Fado ao vivo — São Miguel, LP", 2_990),
    product("knitting-with-dogs", "Knitting with Dogs 🐕", 1_150),
    product("baram-ui-norae", "바람의 노래", 1_780),
    product("ordbok-for-sjomenn", "Ordbok for sjømenn", 2_240),
    product("the-slow-database", "The Slow Database", 5_400),
    product("lac-i-mgla", "Łąc i mgła", 1_080),
    product("cay-bahcesi", "Çay bahçesi", 990),
    product("tin-whistle-in-d", "Tin whistle in D", 1_295),
];

pub(super) const COUNTRIES: &[Country] = &[
    country("DE", "EUR", &["bach klavier", "wald geräusche", "kochbuch frühling", "größe xl"]),
    country("US", "USD", &["vinyl bach", "river atlas", "dog knitting", "databases \"slow\""]),
    country("FR", "EUR", &["recettes d’été", "vinyle fado", "roman phare"]),
    country("GB", "GBP", &["tin whistle", "atlas rivers", "strings studies"]),
    country("JP", "JPY", &["夜の電車", "バッハ レコード", "地図帳"]),
    country("ES", "EUR", &["novela faro", "niña y mar", "vinilo bach"]),
    country("PL", "PLN", &["mgła", "płyta winylowa", "książka kucharska"]),
    country("IN", "INR", &["डायरी", "मौसम", "river atlas"]),
    country("UA", "UAH", &["зимовий сад", "платівка бах"]),
    country("KR", "KRW", &["바람", "클래식 엘피"]),
    country("GR", "EUR", &["θάλασσα", "βινύλιο"]),
    country("EG", "EGP", &["كتاب البحر", "خرائط"]),
];

const fn country(
    code: &'static str,
    currency: &'static str,
    queries: &'static [&'static str],
) -> Country {
    Country { code, currency, queries }
}

pub(super) const REFERRERS: &[&str] = &[
    "https://search.example/",
    "https://news.example/culture/books-of-march",
    "https://mail.example/",
    "https://social.example/t/9271",
    "https://records.example/reviews?id=413&page=2",
    "https://b\u{fc}cher.example/",
];

pub(super) const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/145.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_3 like Mac OS X) Version/19.3 Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 16; Pixel 9) Chrome/145.0 Mobile",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_3) Version/19.2 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0",
    "FeedReader/2.8 (+https://feeds.example/bot)",
    "curl/8.14.1",
];
