//! What this machine can do at most for a producer of small records: memory, checksum, codecs,
//! loopback. Each figure is the best of several short runs: noise only ever adds time.

mod encode;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench_common::{POOL, payload, pool};
use crc_fast::CrcAlgorithm;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::net::{RecvFlags, recv};

/// Seconds of one call: best of 7 rounds of at least 40 ms.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::MAX;
    for _ in 0..7 {
        let (t, mut n) = (Instant::now(), 0u64);
        while t.elapsed() < Duration::from_millis(40) {
            f();
            n += 1;
        }
        best = best.min(t.elapsed().as_secs_f64() / n as f64);
    }
    best
}

/// Processor seconds of this thread.
fn thread_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread may ask for its own usage");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

fn row(name: &str, value: &str) {
    println!("| {name} | {value} |");
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--dump") {
        // The pool of payloads, to compare with the other languages' (--dump there too).
        let size = std::env::args().nth(2).map_or(100, |size| size.parse().expect("a size"));
        pool(size).iter().for_each(|p| std::io::stdout().write_all(p).expect("written"));
        return;
    }
    println!("| what | figure |\n|---|---|");
    memory();
    let batches = [("64 KiB", encoding(64 << 10)), ("1 MiB", encoding(1 << 20))];
    for (name, batch) in &batches {
        checksums(name, batch);
        codecs(name, batch);
    }
    small_things();
    wake_up();
    for drops in [true, false] {
        for size in [16 << 10, 64 << 10, 256 << 10, 1 << 20] {
            loopback(size, drops);
        }
    }
}

/// Encoded records of 100 bytes.
struct Batch {
    bytes: Vec<u8>,
    records: usize,
}

fn memory() {
    let src = vec![7u8; 64 << 10];
    let mut dst = vec![0u8; 64 << 10];
    let s = best(|| {
        dst.copy_from_slice(black_box(&src));
        black_box(&mut dst);
    });
    row("memcpy, 64 KiB in L2", &format!("{:.1} GB/s", 65536.0 / s / 1e9));
    let big = vec![7u8; 256 << 20];
    let mut to = vec![0u8; 256 << 20];
    let mut at = 0;
    let s = best(|| {
        let r = at..at + (64 << 10);
        to[r.clone()].copy_from_slice(black_box(&big[r.clone()]));
        black_box(&mut to[r]);
        at = (at + (64 << 10)) % (256 << 20);
    });
    row("memcpy, 64 KiB blocks walking over 256 MiB", &format!("{:.1} GB/s", 65536.0 / s / 1e9));
}

/// Encodes as many records as fit, and says what one costs.
fn encoding(size: usize) -> Batch {
    let values = pool(100);
    let mut bytes = vec![0u8; size + 256];
    let mut batch = Batch { bytes: Vec::new(), records: 0 };
    let mut fill = || {
        let (mut at, mut records) = (0, 0);
        while at + 132 <= size {
            let value = &values[records % POOL];
            // SAFETY: 132 bytes are left, and a record of 100 bytes takes fewer.
            at += unsafe { encode::record(bytes.as_mut_ptr().add(at), 3, records as i64, value) };
            records += 1;
        }
        black_box(&mut bytes);
        (at, records)
    };
    let s = best(|| {
        black_box(fill());
    });
    let (len, records) = fill();
    batch.bytes.extend_from_slice(&bytes[..len]);
    batch.records = records;
    let name = format!("encode one 100 B record v2 into {} KiB", size >> 10);
    row(&name, &format!("{:.1} ns", s * 1e9 / records as f64));
    batch
}

fn checksums(name: &str, batch: &Batch) {
    let data = &batch.bytes;
    let figure = |s: f64| {
        let (rate, each) = (data.len() as f64 / s / 1e9, s * 1e9 / batch.records as f64);
        format!("{rate:.1} GB/s, {each:.1} ns a record")
    };
    let s = best(|| {
        black_box(crc32c::crc32c(black_box(data)));
    });
    row(&format!("CRC32C, crate crc32c, {name}"), &figure(s));
    let s = best(|| {
        black_box(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, black_box(data)));
    });
    row(&format!("CRC32C, crate crc-fast, {name}"), &figure(s));
}

fn small_things() {
    let nanos = |name: &str, s: f64, times: f64| row(name, &format!("{:.1} ns", s * 1e9 / times));
    let thousand = |f: &mut dyn FnMut()| best(|| (0..1000).for_each(|_| f()));
    let s = thousand(&mut || {
        black_box(rustix::process::getppid());
    });
    nanos("one trivial system call", s, 1000.0);
    let s = thousand(&mut || {
        black_box(Instant::now());
    });
    nanos("Instant::now()", s, 1000.0);
    let s = thousand(&mut || {
        black_box(std::time::SystemTime::now());
    });
    nanos("SystemTime::now()", s, 1000.0);
    let m = Mutex::new(0u64);
    let s = thousand(&mut || *m.lock().expect("not poisoned") += 1);
    nanos("std Mutex lock and unlock, uncontended", s, 1000.0);
    let s = thousand(&mut || drop(black_box(Vec::<u8>::with_capacity(100))));
    nanos("malloc and free of 100 B", s, 1000.0);
    let a = Arc::new(1u64);
    let s = thousand(&mut || drop(black_box(a.clone())));
    nanos("Arc clone and drop", s, 1000.0);
    let key = b"0123456789abcdef";
    let s = thousand(&mut || {
        black_box(murmur2(black_box(key)));
    });
    nanos("murmur2 of a 16 B key", s, 1000.0);
}

fn wake_up() {
    let (mut near, mut far) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let echo = std::thread::spawn(move || {
        let mut x = [0u8; 1];
        while far.read(&mut x).unwrap_or(0) == 1 && far.write_all(&x).is_ok() {}
    });
    let mut x = [0u8; 1];
    let s = best(|| {
        near.write_all(&x).expect("written");
        near.read_exact(&mut x).expect("read");
    });
    row("wake another thread through a socket, there and back", &format!("{:.1} us", s * 1e6));
    drop(near);
    echo.join().expect("it ends");
}

fn codecs(name: &str, batch: &Batch) {
    let data = &batch.bytes[..];
    let tell = |codec: &str, s: f64, out: usize| {
        let (rate, ratio) = (data.len() as f64 / s / 1e6, data.len() as f64 / out as f64);
        let each = s * 1e9 / batch.records as f64;
        let figure = format!("{rate:.0} MB/s, ratio {ratio:.2}, {each:.0} ns a record");
        row(&format!("{codec}, {name}"), &figure);
    };
    let mut len = 0;
    let mut o = vec![0u8; lz4_flex::block::get_maximum_output_size(data.len())];
    let s = best(|| len = lz4_flex::block::compress_into(data, &mut o).expect("it fits"));
    tell("lz4_flex block", s, len);
    let s = best(|| {
        let info = lz4_flex::frame::FrameInfo::new();
        let info = info.block_size(lz4_flex::frame::BlockSize::Max64KB);
        let out = Vec::with_capacity(data.len());
        let mut e = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
        e.write_all(data).expect("written");
        len = e.finish().expect("finished").len();
    });
    tell("lz4_flex frame of 64 KiB blocks", s, len);
    let mut o = vec![0u8; data.len() + data.len() / 100 + 64];
    let mode = Some(lz4::block::CompressionMode::FAST(1));
    let s = best(|| {
        len = lz4::block::compress_to_buffer(data, mode, false, &mut o).expect("it fits");
    });
    tell("lz4 in C, block", s, len);
    for level in [-1, 1, 3] {
        let mut c = zstd::bulk::Compressor::new(level).expect("a compressor");
        let mut o = vec![0u8; zstd::zstd_safe::compress_bound(data.len())];
        let s = best(|| len = c.compress_to_buffer(data, &mut o).expect("it fits"));
        tell(&format!("zstd in C, level {level}"), s, len);
    }
    let mut e = snap::raw::Encoder::new();
    let mut o = vec![0u8; snap::raw::max_compress_len(data.len())];
    let s = best(|| len = e.compress(data, &mut o).expect("it fits"));
    tell("snap", s, len);
}

/// Writes of one size to a reader that drops the bytes as the sink does, or copies them as a broker.
fn loopback(size: usize, drops: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let reader = std::thread::spawn(move || {
        let (mut s, _) = listener.accept().expect("accepted");
        let mut b = vec![0u8; if drops { 1 << 20 } else { 128 << 10 }];
        loop {
            let read = if drops {
                recv(&s, &mut b[..], RecvFlags::TRUNC).expect("received").1
            } else {
                s.read(&mut b).expect("read")
            };
            if read == 0 {
                return thread_cpu();
            }
        }
    });
    let mut w = TcpStream::connect(address).expect("connected");
    w.set_nodelay(true).expect("set");
    let data = payload(1, size);
    let (t, before) = (Instant::now(), thread_cpu());
    let mut total = 0usize;
    while t.elapsed() < Duration::from_millis(700) {
        w.write_all(&data).expect("written");
        total += size;
    }
    let (s, writer) = (t.elapsed().as_secs_f64(), thread_cpu() - before);
    drop(w);
    let reader = reader.join().expect("it ends");
    let gb = total as f64 / 1e9;
    let what = if drops { "the reader drops" } else { "the reader copies" };
    row(
        &format!("loopback TCP, writes of {} KiB, {what}", size >> 10),
        &format!(
            "{:.2} GB/s, writer {:.3} CPU s/GB ({:.1} ns per 108 B), reader {:.3}",
            gb / s,
            writer / gb,
            writer / gb * 108.0,
            reader / gb
        ),
    );
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    for (i, b) in rest.iter().enumerate() {
        h ^= u32::from(*b) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}
