//! The cookie that names a session's endpoint: opaque, signed, with an end.

use crate::base::{Error, Kind, Result};
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use sha2::Sha256;
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// How many cookies of the name are looked at in one request: a browser sends one per path.
const LOOKED_AT: usize = 8;

const VERSION: u8 = 1;
const BODY: usize = 1 + 8 + 12 + 8;
const TAG: usize = 16;

/// What signs cookies: 32 bytes or more that nobody else knows. Balancers that share it honour each other's cookies.
#[derive(Clone)]
pub struct CookieKey(Hmac<Sha256>);

impl CookieKey {
    /// This key.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where it has fewer than 32 bytes: it could be guessed.
    pub fn new(secret: &[u8]) -> Result<Self> {
        if secret.len() < 32 {
            let says = format!("the key must have 32 bytes or more, not {}", secret.len());
            return Err(Error::new(Kind::Invalid, says).at("affinity cookie"));
        }
        let mac = Hmac::new_from_slice(secret).map_err(|error| Error::adopt(error, Kind::Invalid))?;
        Ok(CookieKey(mac))
    }

    /// The code over these parts; their lengths go in as well, so that no part can pass for another.
    fn mac(&self, purpose: u8, name: &str, content: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&[purpose]);
        mac.update(&(name.len() as u64).to_be_bytes());
        mac.update(name.as_bytes());
        mac.update(content);
        mac
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(..)")
    }
}

/// To whom a browser sends the cookie along with requests that another site caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// To nobody.
    Strict,
    /// Where the user follows a link.
    Lax,
    /// To everybody; browsers ask for [`Cookie::secure`] then.
    None,
}

/// The cookie that carries a session's endpoint, so that the session stays there and nothing need be remembered here.
///
/// It holds a number for the session, when it ends, and a name for the endpoint that only who has the key can make:
/// neither address nor key of the endpoint can be read from it or guessed at. HMAC-SHA256 (of it 128 bits) signs it
/// together with the cookie's name; the comparison takes the same time wherever it fails.
///
/// - an hour from the last renewal, `Path=/`, `HttpOnly`, `SameSite=Lax`, `Secure`: what a session cookie of today has
/// - renewed when half its time is over, when the session moves, and when an older key has signed it
///
/// ```
/// use seedpod::serving::{Replicas, affinity::{Cookie, CookieKey, SameSite}};
/// use std::time::Duration;
///
/// let (new, old) = (CookieKey::new(&[8; 32])?, CookieKey::new(&[7; 32])?);
/// let cookie = Cookie::new("seat", new)?.previous(old).path("/shop")?.max_age(Duration::from_secs(8 * 3_600))?;
/// let shop = Replicas::named("shop").sticky(cookie.same_site(SameSite::Strict));
/// # shop.endpoints().insert("a", ());
/// # Ok::<_, seedpod::Error>(())
/// ```
///
/// **Guarantees**: each cookie has one spelling; one that is forged costs one pass over 45 bytes per key, however long it
/// is; of many of the name in one request the first eight are looked at. **Not guaranteed**: that a cookie is used by
/// whom it was given to: who copies it reaches the same endpoint, and no more.
#[derive(Clone, Debug)]
pub struct Cookie {
    name: String,
    /// The first signs; all are believed.
    keys: Vec<CookieKey>,
    path: String,
    max_age: Duration,
    same_site: SameSite,
    secure: bool,
}

/// What a cookie says that we have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    session: u64,
    endpoint: [u8; 12],
    expires: u64,
    renew: bool,
}

impl Ticket {
    /// The session's number.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// Whether a new cookie is to be set although nothing has changed: this one is half over, or signed by an older key.
    pub(super) fn renew(&self) -> bool {
        self.renew
    }
}

/// What a request's cookies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There is none.
    Missing,
    /// It is ours.
    Valid(Ticket),
    /// It is not ours, or not as we have signed it.
    Forged,
    /// It was ours and is too old.
    Expired,
}

/// The endpoints by the names that cookies have for them. Made once per change of the set.
#[derive(Clone, Debug)]
pub(super) struct Roster(Vec<([u8; 12], usize)>);

impl Cookie {
    /// A cookie of this name, signed by this key.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where the name is none that a cookie can have.
    pub fn new(name: impl Into<String>, key: CookieKey) -> Result<Self> {
        let name = name.into();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(invalid(format!("{name:?} is no name for a cookie")));
        }
        let (keys, path, max_age) = (vec![key], "/".into(), Duration::from_secs(3_600));
        Ok(Cookie { name, keys, path, max_age, same_site: SameSite::Lax, secure: true })
    }

    /// Also believes what this key has signed, and signs it anew: how keys are changed without losing sessions. First all
    /// balancers get the new key as a previous one, then as the first.
    #[must_use]
    pub fn previous(mut self, key: CookieKey) -> Self {
        self.keys.push(key);
        self
    }

    /// The path below which the browser sends it.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where the path does not begin with a slash or has what ends an attribute.
    pub fn path(mut self, path: impl Into<String>) -> Result<Self> {
        self.path = path.into();
        let right = |byte: u8| (0x20..0x7F).contains(&byte) && byte != b';';
        if !self.path.starts_with('/') || !self.path.bytes().all(right) {
            return Err(invalid(format!("{:?} is no path for a cookie", self.path)));
        }
        Ok(self)
    }

    /// How long it is good for; whole seconds.
    ///
    /// # Errors
    /// [`Kind::Invalid`] below a second, and above 400 days, which browsers do not keep.
    pub fn max_age(mut self, max_age: Duration) -> Result<Self> {
        if !(1..=400 * 86_400).contains(&max_age.as_secs()) {
            return Err(invalid(format!("the age is from a second to 400 days, not {max_age:?}")));
        }
        self.max_age = max_age;
        Ok(self)
    }

    /// Whether it goes along with requests that another site caused.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Whether it goes over encrypted connections only.
    #[must_use]
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// The `Set-Cookie` that binds the session of this number to this endpoint from now on.
    pub(super) fn issue(&self, endpoint: &str, session: u64, now: SystemTime) -> HeaderValue {
        let expires = seconds(now).saturating_add(self.max_age.as_secs());
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!(
            "{}={}; Path={}; Max-Age={}; HttpOnly; SameSite={:?}{secure}",
            self.name,
            self.value(endpoint, session, expires),
            self.path,
            self.max_age.as_secs(),
            self.same_site,
        );
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")) // name and path were checked
    }

    fn value(&self, endpoint: &str, session: u64, expires: u64) -> String {
        let Some(key) = self.keys.first() else { return String::new() };
        let mut bytes = vec![VERSION];
        bytes.extend(expires.to_be_bytes());
        bytes.extend(self.named(key, endpoint));
        bytes.extend(session.to_be_bytes());
        let tag = key.mac(b'c', &self.name, &bytes).finalize().into_bytes();
        bytes.extend(tag.iter().take(TAG));
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The name that this key makes for an endpoint.
    fn named(&self, key: &CookieKey, endpoint: &str) -> [u8; 12] {
        let code = key.mac(b'e', &self.name, endpoint.as_bytes()).finalize().into_bytes();
        let mut name = [0; 12];
        name.iter_mut().zip(code).for_each(|(to, from)| *to = from);
        name
    }

    /// The endpoints, in the order of the members that will be chosen from, by the names that cookies have for them.
    pub(super) fn roster<'a>(&self, endpoints: impl IntoIterator<Item = &'a str>) -> Roster {
        let each = endpoints.into_iter().enumerate();
        let named = |(place, endpoint)| self.keys.iter().map(move |key| (self.named(key, endpoint), place));
        let mut names: Vec<_> = each.flat_map(named).collect();
        names.sort_unstable();
        Roster(names)
    }

    /// Reads the request's cookies. Of several of the name (a browser sends one per path) one that is ours counts.
    pub(super) fn read(&self, headers: &HeaderMap, now: SystemTime) -> Read {
        let pairs = headers.get_all(COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        let of_name = |pair: &'_ [u8]| {
            let (name, value) = pair.trim_ascii().split_at_checked(self.name.len())?;
            (name == self.name.as_bytes()).then(|| value.strip_prefix(b"=").map(<[u8]>::to_vec))?
        };
        let mut best = Read::Missing;
        for value in pairs.filter_map(of_name).take(LOOKED_AT) {
            match (self.judge(&value, seconds(now)), best) {
                (valid @ Read::Valid(_), _) => return valid,
                (Read::Forged, Read::Expired) => {}
                (worse, _) => best = worse,
            }
        }
        best
    }

    /// First whether it is ours, in constant time, and only then what it says.
    fn judge(&self, value: &[u8], now: u64) -> Read {
        let Some(bytes) = hex(value) else { return Read::Forged };
        let (body, tag) = bytes.split_at(BODY);
        let ours = |key: &CookieKey| key.mac(b'c', &self.name, body).verify_truncated_left(tag).is_ok();
        let Some(by) = self.keys.iter().position(ours) else { return Read::Forged };
        let Some(mut ticket) = parse(body) else { return Read::Forged };
        if ticket.expires <= now {
            return Read::Expired;
        }
        ticket.renew = by > 0 || ticket.expires - now <= self.max_age.as_secs() / 2;
        Read::Valid(ticket)
    }
}

impl Roster {
    /// The place of the endpoint that this names; none where it has left.
    pub(super) fn find(&self, ticket: &Ticket) -> Option<usize> {
        let at = self.0.binary_search_by(|(name, _)| name.cmp(&ticket.endpoint)).ok()?;
        self.0.get(at).map(|(_, place)| *place)
    }
}

fn invalid(says: String) -> Error {
    Error::new(Kind::Invalid, says).at("affinity cookie")
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A whole cookie of lower-case digits, and nothing else: each cookie has one spelling.
fn hex(text: &[u8]) -> Option<[u8; BODY + TAG]> {
    let mut bytes = [0; BODY + TAG];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

fn parse(body: &[u8]) -> Option<Ticket> {
    let (version, rest) = body.split_first()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (endpoint, rest) = rest.split_first_chunk()?;
    let (session, rest) = rest.split_first_chunk()?;
    let (expires, session) = (u64::from_be_bytes(*expires), u64::from_be_bytes(*session));
    (*version == VERSION && rest.is_empty()).then_some(Ticket { session, endpoint: *endpoint, expires, renew: false })
}

#[cfg(test)]
mod tests;
