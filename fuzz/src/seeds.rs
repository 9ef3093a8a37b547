//! Writes the golden files of sordini-protocol as first inputs: `cargo run --example seeds`.

use std::error::Error;
use std::fs;
use std::path::Path;

use sordini_protocol::messages::SUPPORTED;
use sordini_protocol::records::BatchHeader;

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = here.join("../crates/sordini-protocol/tests/golden");
    let put = |target: &str, name: &str, bytes: &[u8]| -> Result<(), Box<dyn Error>> {
        let folder = here.join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), bytes)?)
    };
    for (i, line) in fs::read_to_string(golden.join("messages.txt"))?.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let [message, version, _, hex] = words[..] else { return Err("a line of 4 words".into()) };
        for (direction, suffix) in ["Request", "Response"].into_iter().enumerate() {
            let name = message.strip_suffix(suffix);
            let api = SUPPORTED.iter().position(|api| Some(api.name()) == name);
            if let Some(api) = api {
                let mut bytes = vec![api as u8, version.parse()?, direction as u8];
                bytes.extend(unhex(hex)?);
                put("messages", &format!("golden-{i}"), &bytes)?;
                let mut frame = SUPPORTED[api].code().to_be_bytes().to_vec();
                frame.extend([0, version.parse()?, 0, 0, 0, 1, 0xff, 0xff]);
                if SUPPORTED[api].request_header_version(version.parse()?) == 2 {
                    frame.push(0);
                }
                frame.extend(unhex(hex)?);
                if direction == 0 {
                    put("frames", &format!("golden-{i}"), &frame)?;
                }
            }
        }
    }
    for (i, line) in fs::read_to_string(golden.join("batches.txt"))?.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, kind, hex] = words[..] else { return Err("a line of 3 words".into()) };
        let bytes = unhex(hex)?;
        let header = BatchHeader::parse(&bytes)?;
        put("batches", &format!("golden-{i}"), &bytes)?;
        let body = &bytes[BatchHeader::SIZE..];
        let codec = header.compression()?.code();
        if codec == 0 {
            put("records", &format!("golden-{i}"), &[&[3, 3], body].concat())?;
            put("codecs", &format!("golden-{i}"), body)?;
        }
        if kind != "large" {
            put("decompress", &format!("golden-{i}"), &[&[codec], body].concat())?;
        }
    }
    Ok(())
}

fn unhex(hex: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}
