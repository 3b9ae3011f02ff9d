//! What real clients sent, and more like it.

/// What curl 7.88 sends, as a Socket.IO client would have it.
pub(super) const SOCKET_IO: &[u8] = b"GET /socket.io/?EIO=4&transport=polling&sid=Zx81 HTTP/1.1\r\n\
    Host: localhost:56757\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nCookie: theme=dark; sid=4711\r\n\r\n";

/// The ClientHello of `openssl s_client -servername Chat.Example.org -alpn h2,http/1.1` (OpenSSL 3.0.19), a TLS 1.3 client.
const TLS_1_3: &str = "\
    160301014f0100014b03033e35e1be7af5933e63baa386b3dab6fa9b9ffba88079ae03c45c653bfed5d5962025c5830b31b1bf5c132114c75f\
    75998bdbccc3501d64e4eebae7b4481418977e003e130213031301c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067\
    c00ac0140039c009c0130033009d009c003d003c0035002f00ff010000c4000000150013000010436861742e4578616d706c652e6f7267000b\
    000403000102000a00160014001d0017001e0019001801000101010201030104002300000010000e000c02683208687474702f312e31001600\
    0000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b00090803\
    04030303020301002d00020101003300260024001d00207208f01bef7e8cc0f56bd3766d5d578857be83f6379cea912d5a1b4f105c2e38";

/// The same with `-noservername -tls1_2`: the first extension is another.
const TLS_1_2_WITHOUT_NAME: &str = "\
    16030100b7010000b30303710522c3f65708231552637de7602b16753fdf3a96f6b8b146a5294f8de6bb90000038c02cc030009fcca9cca8cc\
    aac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff01000052000b000403000102\
    000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809080a080b08040805080604\
    0105010601030303010302040205020602";

/// For the host `Chat.Example.org`.
pub(super) fn tls_1_3() -> Vec<u8> {
    bytes(TLS_1_3)
}

pub(super) fn tls_1_2_without_name() -> Vec<u8> {
    bytes(TLS_1_2_WITHOUT_NAME)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A vector with its length in so many bytes before it.
pub(super) fn vector<const BYTES: usize>(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - BYTES..], content].concat()
}

pub(super) fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector::<2>(content)].concat()
}

/// The extension that names a host.
pub(super) fn name(host: &[u8]) -> Vec<u8> {
    extension(0, &vector::<2>(&[&[0], &vector::<2>(host)[..]].concat()))
}

/// A ClientHello as a message, with these extensions.
pub(super) fn hello(session: &[u8], suites: &[u8], extensions: &[u8]) -> Vec<u8> {
    let start =
        [&[3, 3][..], &[7; 32], &vector::<1>(session), &vector::<2>(suites), &vector::<1>(&[0])].concat();
    [&[1][..], &vector::<3>(&[&start[..], &vector::<2>(extensions)].concat())].concat()
}

/// A message in records that have fragments of these sizes, in turn.
pub(super) fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut rest, mut all) = (message, Vec::new());
    for size in sizes.iter().cycle() {
        let (fragment, later) = rest.split_at(rest.len().min(*size));
        all.extend([&[22, 3, 1][..], &vector::<2>(fragment)].concat());
        if later.is_empty() {
            break;
        }
        rest = later;
    }
    all
}
