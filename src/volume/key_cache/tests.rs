use super::*;
use crate::format::VolumeId;
use crate::secret::Key256;

fn secret(byte: u8) -> FileSecret {
    let key = Key256::init(|key| key.fill(byte));
    FileSecret::derive(&key, &VolumeId([1; 16]), &FileId([2; 16]))
}

fn has(cache: &KeyCache, key: &CacheKey) -> bool {
    cache.with(key, |_| ()).is_some()
}

fn file(number: u32) -> FileId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    FileId(id)
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn file_wrapping_and_user_all_count() {
    let cache = KeyCache::new(LONG);
    let (one, other) = ([[9; 30].as_slice(), &[1; 16]].concat(), [2; 46]);
    cache.keep(CacheKey::new(&file(1), &one, Some(0)), secret(1));
    assert!(has(&cache, &CacheKey::new(&file(1), &one, Some(0))));
    assert!(!has(&cache, &CacheKey::new(&file(2), &one, Some(0))));
    assert!(!has(&cache, &CacheKey::new(&file(1), &other, Some(0))));
    assert!(!has(&cache, &CacheKey::new(&file(1), &one, Some(1))));
    assert!(!has(&cache, &CacheKey::new(&file(1), &one, None)));
}

#[test]
fn each_serves_for_its_time_and_so_many_opens() {
    let cache = KeyCache::new(Duration::ZERO);
    let key = CacheKey::new(&file(1), &[7; 16], None);
    cache.keep(key, secret(1));
    assert!(!has(&cache, &key), "past its time");
    let cache = KeyCache::new(LONG);
    cache.keep(key, secret(1));
    for _ in 0..USES {
        assert!(has(&cache, &key));
    }
    assert!(!has(&cache, &key), "used up");
    cache.keep(key, secret(1));
    assert!(has(&cache, &key));
}

#[test]
fn old_ones_go_by_themselves() {
    let cache = KeyCache::new(Duration::ZERO);
    cache.keep(CacheKey::new(&file(1), &[7; 16], None), secret(1));
    cache.drop_old();
    assert!(cache.map.lock().is_empty());
    let cache = KeyCache::new(LONG);
    let key = CacheKey::new(&file(1), &[7; 16], None);
    cache.keep(key, secret(1));
    cache.drop_old();
    assert!(has(&cache, &key));
    cache.clear();
    assert!(!has(&cache, &key));
}

#[test]
fn a_full_cache_lets_the_oldest_half_go() {
    let cache = KeyCache::new(LONG);
    let key = |number: usize| CacheKey::new(&file(number as u32), &[7; 16], None);
    for number in 0..=MOST {
        cache.keep(key(number), secret(1));
    }
    assert!(cache.map.lock().len() <= MOST / 2 + 1);
    assert!(has(&cache, &key(MOST)));
    assert!(has(&cache, &key(MOST - 1)));
    assert!(!has(&cache, &key(0)));
}

#[test]
fn other_wrappings_of_a_file_are_forgotten() {
    let cache = KeyCache::new(LONG);
    let key = |number, byte| CacheKey::new(&file(number), &[byte; 16], Some(3));
    for (number, byte) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
        cache.keep(key(number, byte), secret(byte));
    }
    let (new, recovery) = ([2; 16], [3; 16]);
    cache.forget_others(&file(1), [new.as_slice(), &recovery].into_iter());
    assert!(!has(&cache, &key(1, 1)));
    assert!(has(&cache, &key(1, 2)));
    assert!(has(&cache, &key(1, 3)));
    assert!(has(&cache, &key(2, 1)), "another file");
}
