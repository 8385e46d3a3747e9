//! SQLite on a volume without a mount: a VFS of SQLite's whose files are the volume's.
#![allow(unsafe_code)] // SQLite's interface is C
#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)] // and its lengths are ints

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Once};

use envelopefs::volume::{HandleId, NodeId, OpenMode, Volume, VolumeError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rusqlite::{Connection, OpenFlags, ffi};

use super::kit::ME;
use super::mem::Mem;
use super::model::{ROOT, Thing};
use super::world::{Database, Outcome, Recording, World};

const VFS: &CStr = c"crash";
const NAME: &str = "db";

/// Whose files SQLite works on, in this thread.
enum Stage {
    /// A workload under record.
    World {
        world: Box<World>,
        /// Those that were made since their directory was synced.
        new: Vec<Thing>,
    },
    /// A volume after a cut.
    Volume {
        volume: Arc<Volume<Mem>>,
        open: HashMap<usize, HandleId>,
    },
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

fn on_stage<T>(act: impl FnOnce(&mut Stage) -> Outcome<T>) -> Outcome<T> {
    STAGE.with_borrow_mut(|stage| act(stage.as_mut().ok_or(VolumeError::BadHandle)?))
}

impl Stage {
    fn find(&self, name: &str) -> Option<usize> {
        match self {
            Self::World { world, .. } => world.model().at(ROOT, name.as_bytes()),
            Self::Volume { volume, .. } => volume
                .lookup(NodeId::ROOT, name.as_bytes())
                .ok()
                .map(|attr| attr.ino.0 as usize),
        }
    }

    fn open(&mut self, name: &str, create: bool) -> Outcome<usize> {
        if let Some(file) = self.find(name) {
            return Ok(file);
        }
        if !create {
            return Err(VolumeError::NotFound);
        }
        match self {
            Self::World { world, new } => {
                let thing = world.create(ROOT, name.as_bytes())?;
                new.push(thing);
                Ok(thing)
            }
            Self::Volume { volume, open } => {
                let mode = OpenMode::READ_WRITE;
                let (attr, handle) =
                    volume.create(&ME, NodeId::ROOT, name.as_bytes(), 0o644, 0, mode)?;
                open.insert(attr.ino.0 as usize, handle);
                Ok(attr.ino.0 as usize)
            }
        }
    }

    fn handle(
        volume: &Volume<Mem>,
        open: &mut HashMap<usize, HandleId>,
        file: usize,
    ) -> Outcome<HandleId> {
        if let Some(handle) = open.get(&file) {
            return Ok(*handle);
        }
        let handle = volume.open_file(&ME, NodeId(file as u64), OpenMode::READ_WRITE)?;
        open.insert(file, handle);
        Ok(handle)
    }

    fn read(&mut self, file: usize, at: u64, out: &mut [u8]) -> Outcome<usize> {
        match self {
            Self::World { world, .. } => world.read(file, at as usize, out),
            Self::Volume { volume, open } => {
                let handle = Self::handle(volume, open, file)?;
                volume.read(handle, at, out)
            }
        }
    }

    fn write(&mut self, file: usize, at: u64, data: &[u8]) -> Outcome<()> {
        match self {
            Self::World { world, .. } => world.write(file, at as usize, data),
            Self::Volume { volume, open } => {
                let handle = Self::handle(volume, open, file)?;
                volume.write(handle, at, data, false)
            }
        }
    }

    fn truncate(&mut self, file: usize, size: u64) -> Outcome<()> {
        match self {
            Self::World { world, .. } => world.truncate(file, size as usize),
            Self::Volume { volume, open } => {
                let handle = Self::handle(volume, open, file)?;
                let set = envelopefs::volume::SetAttr {
                    size: Some(size),
                    ..envelopefs::volume::SetAttr::default()
                };
                volume
                    .setattr(&ME, NodeId(file as u64), Some(handle), &set)
                    .map(drop)
            }
        }
    }

    fn sync(&mut self, file: usize, data_only: bool) -> Outcome<()> {
        match self {
            Self::World { world, new } => {
                world.fsync(file, data_only)?;
                // As SQLite's own VFS does: a new file's name is synced with it.
                if new.contains(&file) {
                    new.clear();
                    world.fsync_dir(ROOT)?;
                }
                Ok(())
            }
            Self::Volume { volume, open } => {
                let handle = Self::handle(volume, open, file)?;
                volume.fsync(handle, data_only)
            }
        }
    }

    fn size(&mut self, file: usize) -> Outcome<u64> {
        match self {
            Self::World { world, .. } => Ok(world.model().bytes(file).len() as u64),
            Self::Volume { volume, .. } => Ok(volume.getattr(NodeId(file as u64), None)?.size),
        }
    }

    fn delete(&mut self, name: &str, sync: bool) -> Outcome<()> {
        if self.find(name).is_none() {
            return Err(VolumeError::NotFound);
        }
        match self {
            Self::World { world, .. } => {
                world.unlink(ROOT, name.as_bytes())?;
                if sync {
                    world.fsync_dir(ROOT)?;
                }
                Ok(())
            }
            Self::Volume { volume, .. } => volume.unlink(NodeId::ROOT, name.as_bytes()),
        }
    }
}

/// SQLite's open file, as it lies in SQLite's memory.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    file: usize,
}

fn code(result: Outcome<()>, failure: c_int) -> c_int {
    if result.is_ok() {
        ffi::SQLITE_OK
    } else {
        failure
    }
}

fn file_of(file: *mut ffi::sqlite3_file) -> usize {
    // SAFETY: SQLite hands out only what `x_open` filled in.
    unsafe { (*file.cast::<File>()).file }
}

fn name_of(name: *const c_char) -> String {
    // SAFETY: SQLite's names end with a NUL and live through the call.
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .trim_start_matches('/')
        .to_owned()
}

unsafe extern "C" fn x_open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives `szOsFile` bytes for the file; null methods mean that it isn't open.
    unsafe { (*file).pMethods = std::ptr::null() };
    if name.is_null() {
        return ffi::SQLITE_CANTOPEN;
    }
    let create = flags & ffi::SQLITE_OPEN_CREATE != 0;
    match on_stage(|stage| stage.open(&name_of(name), create)) {
        Ok(opened) => {
            // SAFETY: as above; `out_flags` may be null.
            unsafe {
                (*file.cast::<File>()).file = opened;
                (*file).pMethods = &raw const METHODS;
                if !out_flags.is_null() {
                    *out_flags = flags;
                }
            }
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_CANTOPEN,
    }
}

unsafe extern "C" fn x_close(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_read(
    file: *mut ffi::sqlite3_file,
    out: *mut c_void,
    len: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives `len` bytes to fill.
    let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), len as usize) };
    match on_stage(|stage| stage.read(file_of(file), at.cast_unsigned(), out)) {
        Ok(read) if read == out.len() => ffi::SQLITE_OK,
        Ok(read) => {
            out[read..].fill(0);
            ffi::SQLITE_IOERR_SHORT_READ
        }
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn x_write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    len: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives `len` bytes to write.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len as usize) };
    code(
        on_stage(|stage| stage.write(file_of(file), at.cast_unsigned(), data)),
        ffi::SQLITE_IOERR_WRITE,
    )
}

unsafe extern "C" fn x_truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    code(
        on_stage(|stage| stage.truncate(file_of(file), size.cast_unsigned())),
        ffi::SQLITE_IOERR_TRUNCATE,
    )
}

unsafe extern "C" fn x_sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let data_only = flags & ffi::SQLITE_SYNC_DATAONLY != 0;
    code(
        on_stage(|stage| stage.sync(file_of(file), data_only)),
        ffi::SQLITE_IOERR_FSYNC,
    )
}

unsafe extern "C" fn x_file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    match on_stage(|stage| stage.size(file_of(file))) {
        Ok(found) => {
            // SAFETY: SQLite gives a place for the answer.
            unsafe { *size = found.cast_signed() };
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_IOERR_FSTAT,
    }
}

unsafe extern "C" fn x_lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_check_reserved(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn x_sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn x_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    0
}

unsafe extern "C" fn x_delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    match on_stage(|stage| stage.delete(&name_of(name), sync != 0)) {
        Ok(()) => ffi::SQLITE_OK,
        Err(VolumeError::NotFound) => ffi::SQLITE_IOERR_DELETE_NOENT,
        Err(_) => ffi::SQLITE_IOERR_DELETE,
    }
}

unsafe extern "C" fn x_access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    let found = on_stage(|stage| {
        let Some(file) = stage.find(&name_of(name)) else {
            return Ok(false);
        };
        // As SQLite's own VFS: an empty file counts as none.
        Ok(stage.size(file)? > 0)
    });
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = c_int::from(found.unwrap_or(false)) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `out` has room for `len` bytes, and the name ends with a NUL.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > len as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_randomness(_: *mut ffi::sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite gives `len` bytes to fill. The same in each run.
    unsafe { std::ptr::write_bytes(out, 0x5A, len as usize) };
    len
}

unsafe extern "C" fn x_sleep(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

unsafe extern "C" fn x_current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = 2_460_000.5 };
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_file_size),
    xLock: Some(x_lock),
    xUnlock: Some(x_lock),
    xCheckReservedLock: Some(x_check_reserved),
    xFileControl: Some(x_file_control),
    xSectorSize: Some(x_sector_size),
    xDeviceCharacteristics: Some(x_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let vfs = Box::new(ffi::sqlite3_vfs {
            iVersion: 1,
            szOsFile: size_of::<File>() as c_int,
            mxPathname: 200,
            pNext: std::ptr::null_mut(),
            zName: VFS.as_ptr(),
            pAppData: std::ptr::null_mut(),
            xOpen: Some(x_open),
            xDelete: Some(x_delete),
            xAccess: Some(x_access),
            xFullPathname: Some(x_full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(x_randomness),
            xSleep: Some(x_sleep),
            xCurrentTime: Some(x_current_time),
            xGetLastError: None,
            xCurrentTimeInt64: None,
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        // SAFETY: the structure lives for ever, as SQLite wants it.
        let result = unsafe { ffi::sqlite3_vfs_register(Box::leak(vfs), 0) };
        assert_eq!(result, ffi::SQLITE_OK);
    });
}

fn connect(journal_mode: &str) -> rusqlite::Result<Connection> {
    register();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let name = VFS.to_str().expect("ASCII");
    let db = Connection::open_with_flags_and_vfs(NAME, flags, name)?;
    // Alone, so that a WAL needs no shared memory.
    db.pragma_update(None, "locking_mode", "exclusive")?;
    db.pragma_update(None, "temp_store", "memory")?;
    db.pragma_update_and_check(None, "journal_mode", journal_mode, |_| Ok(()))?;
    // EXTRA: a rollback journal's removal is synced too, so that a commit is one.
    db.pragma_update(None, "synchronous", "extra")?;
    db.pragma_update(None, "wal_autocheckpoint", 12)?;
    Ok(db)
}

fn payload(number: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (number as usize * 131 + i * 7) as u8)
        .collect()
}

fn payload_len(number: u64) -> usize {
    (number as usize * 997) % 6000
}

/// Runs a database on a volume.
pub fn record(world: World, seed: u64, journal_mode: &'static str) -> Recording {
    let mut rng = SmallRng::seed_from_u64(seed);
    let new = Vec::new();
    let world = Box::new(world);
    STAGE.set(Some(Stage::World { world, new }));
    let committed = |number| {
        STAGE.with_borrow_mut(|stage| {
            if let Some(Stage::World { world, .. }) = stage {
                world.committed(number);
                if number % 4 == 2 {
                    world.write_back().unwrap();
                }
            }
        });
    };
    let mut db = connect(journal_mode).unwrap();
    db.execute_batch(
        "BEGIN; CREATE TABLE entry (number INTEGER PRIMARY KEY, data BLOB, version INTEGER);
         CREATE TABLE newest (number INTEGER); INSERT INTO newest VALUES (0); COMMIT;",
    )
    .unwrap();
    committed(1);
    for number in 2..14u64 {
        let transaction = db.transaction().unwrap();
        transaction
            .execute(
                "INSERT INTO entry VALUES (?1, ?2, 0)",
                (number.cast_signed(), payload(number, payload_len(number))),
            )
            .unwrap();
        // In place: pages that are in use already.
        let other = rng.random_range(1..number);
        transaction
            .execute(
                "UPDATE entry SET version = ?2 WHERE number = ?1",
                (other.cast_signed(), number.cast_signed()),
            )
            .unwrap();
        transaction
            .execute("UPDATE newest SET number = ?1", [number.cast_signed()])
            .unwrap();
        transaction.commit().unwrap();
        committed(number);
    }
    drop(db);
    let Some(Stage::World { world, .. }) = STAGE.take() else {
        panic!("the stage is empty");
    };
    world.finish(Some(Database { journal_mode }))
}

/// Opens the database in a volume: every transaction that was committed must be in it.
pub fn check(volume: &Arc<Volume<Mem>>, database: Database, committed: u64) -> Result<(), String> {
    STAGE.set(Some(Stage::Volume {
        volume: Arc::clone(volume),
        open: HashMap::new(),
    }));
    let result = look(database, committed).map_err(|error| format!("SQLite: {error}"));
    STAGE.set(None);
    result?
}

fn look(database: Database, committed: u64) -> rusqlite::Result<Result<(), String>> {
    let db = connect(database.journal_mode)?;
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Ok(Err(format!("SQLite's integrity check: {verdict}")));
    }
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(if committed == 0 {
            Ok(())
        } else {
            Err(format!("no table, {committed} committed"))
        });
    }
    let newest: i64 = db.query_row("SELECT number FROM newest", [], |row| row.get(0))?;
    let newest = newest.cast_unsigned().max(1);
    if newest != committed && newest != committed + 1 {
        return Ok(Err(format!(
            "the newest transaction is {newest}, and {committed} were committed"
        )));
    }
    let mut query = db.prepare("SELECT number, data FROM entry ORDER BY number")?;
    let mut rows = query.query([])?;
    let mut count = 1;
    while let Some(row) = rows.next()? {
        count += 1;
        let number = row.get::<_, i64>(0)?.cast_unsigned();
        let data: Vec<u8> = row.get(1)?;
        if number != count || data != payload(number, payload_len(number)) {
            return Ok(Err(format!("row {count} is wrong")));
        }
    }
    if count != newest {
        return Ok(Err(format!("{count} rows, and the newest is {newest}")));
    }
    Ok(Ok(()))
}
