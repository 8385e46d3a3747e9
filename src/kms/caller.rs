//! Who asks: the principal behind an operation, and from where.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::audit;
use super::context::EncryptionContext;
use super::error::{KmsError, Result};
use super::id::RunId;
use super::reference::check_region;
use super::source::InRun;
use super::volumes::volume_context;
use crate::format::VolumeId;

/// Characters in a Region's name at most.
const REGION_MOST: usize = 32;

/// A Region's name, such as `us-east-1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    len: u8,
    /// ASCII, zeros after `len`.
    name: [u8; REGION_MOST],
}

impl Region {
    /// The name.
    pub fn as_str(&self) -> &str {
        // Checked when it was made: lower-case letters, digits and '-'.
        std::str::from_utf8(&self.name[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for Region {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self> {
        check_region(text)?;
        let mut name = [0; REGION_MOST];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self {
            len: text.len() as u8,
            name,
        })
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Region {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The account root: who owns the keystore's directory, and the system's root.
    Root,
    /// A user of the account.
    User(String),
    /// A volume, which works through a grant of its own.
    Volume(VolumeId),
    /// The key manager itself: automatic rotation, deletion, expiry.
    Service,
}

impl Principal {
    /// The principal of a local user: `uid` 0 and the `owner` of the keystore's directory are the
    /// account root; others are users, by the name that the system has for them.
    pub fn of_uid(uid: u32, owner: u32) -> Self {
        if uid == 0 || uid == owner {
            return Self::Root;
        }
        Self::User(user_name(uid).unwrap_or_else(|| format!("uid-{uid}")))
    }

    /// The principal's ARN.
    pub fn arn(&self, account: &str) -> String {
        match self {
            Self::Root => format!("arn:aws:iam::{account}:root"),
            Self::User(name) => format!("arn:aws:iam::{account}:user/{name}"),
            Self::Volume(id) => volume_arn(account, id),
            Self::Service => "envelopefs".to_owned(),
        }
    }
}

fn volume_arn(account: &str, volume: &VolumeId) -> String {
    format!("arn:aws:sts::{account}:assumed-role/envelopefs:volume/{volume}")
}

/// A user's name by the system's list; `None` when there is none that an ARN can hold.
fn user_name(uid: u32) -> Option<String> {
    let list = std::fs::read_to_string("/etc/passwd").ok()?;
    let name = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == uid).then_some(name)
    })?;
    is_user_name(name).then(|| name.to_owned())
}

/// Whether a name can be a user's in an ARN: 1 to 64 of `[A-Za-z0-9_+=,.@-]`, as in IAM.
pub(super) fn is_user_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(valid)
}

/// Where a request came from, for the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The client's address; `None` for a local one.
    pub address: Option<std::net::IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The access key that signed the request.
    pub access_key: Option<String>,
    /// The local user that asks.
    pub uid: Option<u32>,
    /// The process that asks.
    pub pid: Option<u32>,
    /// The request's id; the key manager makes one when there is none.
    pub request_id: Option<String>,
    /// The run of a rewrap or re-encrypt that it is part of.
    pub run: Option<RunId>,
}

/// On whose behalf an operation runs, and in which Region.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Shared: a volume's caller is cloned for each user that asks something of it.
    identity: Arc<Identity>,
    source: Source,
    /// The source's address, as text.
    address: Option<String>,
}

/// A principal in a Region, with what each of its operations needs to know of it.
#[derive(Clone, Debug)]
struct Identity {
    principal: Principal,
    arn: String,
    account: String,
    region: Region,
    /// The service through which a volume uses keys.
    via: Option<String>,
    /// Of a volume: what its files' contexts have in common, and its grants are bound to.
    context: Option<EncryptionContext>,
    /// The start of its records.
    recorded: Vec<u8>,
}

fn via_service(principal: &Principal, region: Region) -> Option<String> {
    matches!(principal, Principal::Volume(_)).then(|| format!("envelopefs.{region}.amazonaws.com"))
}

impl Caller {
    pub(super) fn new(principal: Principal, account: &str, region: Region) -> Self {
        let arn = principal.arn(account);
        let identity = Identity {
            account: account.to_owned(),
            via: via_service(&principal, region),
            context: match &principal {
                Principal::Volume(volume) => Some(volume_context(volume)),
                _ => None,
            },
            recorded: audit::start(&principal, &arn, account),
            principal,
            arn,
            region,
        };
        Self {
            identity: Arc::new(identity),
            source: Source::default(),
            address: None,
        }
    }

    /// The same caller in another Region.
    #[must_use]
    pub fn in_region(self, region: Region) -> Self {
        let identity = Identity {
            via: via_service(self.principal(), region),
            region,
            ..Arc::unwrap_or_clone(self.identity)
        };
        Self {
            identity: Arc::new(identity),
            ..self
        }
    }

    /// The same caller from somewhere.
    #[must_use]
    pub fn with_source(self, source: Source) -> Self {
        Self {
            address: source.address.map(|address| address.to_string()),
            source,
            ..self
        }
    }

    /// The same caller as part of the run that this thread works for.
    pub(super) fn in_this_run(self) -> Self {
        let source = Source {
            run: InRun::current(),
            ..self.source
        };
        Self { source, ..self }
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.identity.principal
    }

    /// Its ARN.
    pub fn arn(&self) -> &str {
        &self.identity.arn
    }

    /// Its account's id.
    pub fn account(&self) -> &str {
        &self.identity.account
    }

    /// The Region it works in.
    pub fn region(&self) -> Region {
        self.identity.region
    }

    /// The address that it asks from.
    pub(super) fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The Region's name.
    pub(super) fn region_name(&self) -> &str {
        self.identity.region.as_str()
    }

    /// Where it asks from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// `kms:ViaService`: the service through which a volume uses keys.
    pub fn via_service(&self) -> Option<&str> {
        self.identity.via.as_deref()
    }

    /// Of a volume: what the encryption contexts of its files have in common.
    pub(super) fn context(&self) -> Option<&EncryptionContext> {
        self.identity.context.as_ref()
    }

    /// The start of its records: see [`audit::start`].
    pub(super) fn recorded(&self) -> &[u8] {
        &self.identity.recorded
    }

    /// Whether it is a volume.
    pub(super) fn is_volume(&self) -> bool {
        matches!(self.principal(), Principal::Volume(_))
    }
}
