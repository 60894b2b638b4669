# ruff: noqa: E501 (an invoice is one word)
"""Decoding BOLT 11, held against the specification, recorded lnd invoices and another decoder."""

import bech32
import bolt11 as oracle
import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from l402.errors import InvalidInvoice
from l402.nodes.simulated import SimulatedNode
from l402.protocol.bolt11 import CHARSET, NETWORKS, PaymentRequest, checksum, decode

LETTERS = CHARSET.decode()

# Examples of BOLT 11 (CC BY 4.0). Unless named, they share hash, secret and time.
SPEC_HASH = bytes.fromhex("0001020304050607080900010203040506070809000102030405060708090102")
SPEC_SECRET = b"\x11" * 32
SPEC_TIME = 1496314658
SPEC_LIST_HASH = bytes.fromhex("3925b6f67e2c340036ed12093dd44e0368df1b6ea26c53dbe4811f58fd5db8c1")
COFFEE_BEANS = "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqqsgq2a25dxl5hrntdtn6zvydt7d66hyzsyhqs4wdynavys42xgl6sgx9c4g7me86a27t07mdtfry458rtjr0v92cnmswpsjscgt2vcse3sgpz3uapa"


def spec(msat, description=None, network="mainnet", expiry=3600, **other):
    """The decoded form of one of the specification's examples."""
    return PaymentRequest(
        network=network,
        msat=msat,
        payment_hash=other.get("payment_hash", SPEC_HASH),
        created_at=other.get("created_at", SPEC_TIME),
        expiry=expiry,
        description=description,
        description_hash=other.get("description_hash"),
        payment_secret=other.get("payment_secret", SPEC_SECRET),
    )


def spec_list(network="mainnet", **other):
    """The decoded form of the examples that sell a list of things by its hash."""
    return spec(2_000_000_000, network=network, description_hash=SPEC_LIST_HASH, **other)


SPEC_VALID = {
    "donation of any amount": (
        "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql",
        spec(None, "Please consider supporting this project"),
    ),
    "coffee within a minute": (
        "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh",
        spec(250_000_000, "1 cup coffee", expiry=60),
    ),
    "nonsense in Japanese": (
        "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpu9qrsgqhtjpauu9ur7fw2thcl4y9vfvh4m9wlfyz2gem29g5ghe2aak2pm3ps8fdhtceqsaagty2vph7utlgj48u0ged6a337aewvraedendscp573dxr",
        spec(250_000_000, "ナンセンス 1杯", expiry=60),
    ),
    "list by its hash": (
        "lnbc20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqs9qrsgq7ea976txfraylvgzuxs8kgcw23ezlrszfnh8r6qtfpr6cxga50aj6txm9rxrydzd06dfeawfk6swupvz4erwnyutnjq7x39ymw6j38gp7ynn44",
        spec_list(),
    ),
    "testnet with a fallback address": (
        "lntb20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygshp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfpp3x9et2e20v6pu37c5d9vax37wxq72un989qrsgqdj545axuxtnfemtpwkc45hx9d2ft7x04mt8q7y6t0k2dge9e7h8kpy9p34ytyslj3yu569aalz2xdk8xkd7ltxqld94u8h2esmsmacgpghe9k8",
        spec_list(network="testnet"),
    ),
    "two routing hints": (
        "lnbc20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqsfpp3qjmp7lwpagxun9pygexvgpjdc4jdj85fr9yq20q82gphp2nflc7jtzrcazrra7wwgzxqc8u7754cdlpfrmccae92qgzqvzq2ps8pqqqqqqpqqqqq9qqqvpeuqafqxu92d8lr6fvg0r5gv0heeeqgcrqlnm6jhphu9y00rrhy4grqszsvpcgpy9qqqqqqgqqqqq7qqzq9qrsgqdfjcdk6w3ak5pca9hwfwfh63zrrz06wwfya0ydlzpgzxkn5xagsqz7x9j4jwe7yj7vaf2k9lqsdk45kts2fd0fkr28am0u4w95tt2nsq76cqw0",
        spec_list(),
    ),
    "fallback to a script hash": (
        "lnbc20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygshp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfppj3a24vwu6r8ejrss3axul8rxldph2q7z99qrsgqz6qsgww34xlatfj6e3sngrwfy3ytkt29d2qttr8qz2mnedfqysuqypgqex4haa2h8fx3wnypranf3pdwyluftwe680jjcfp438u82xqphf75ym",
        spec_list(),
    ),
    "fallback to a witness key": (
        "lnbc20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygshp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfppqw508d6qejxtdg4y5r3zarvary0c5xw7k9qrsgqt29a0wturnys2hhxpner2e3plp6jyj8qx7548zr2z7ptgjjc7hljm98xhjym0dg52sdrvqamxdezkmqg4gdrvwwnf0kv2jdfnl4xatsqmrnsse",
        spec_list(),
    ),
    "fallback to a witness script": (
        "lnbc20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygshp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfp4qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q9qrsgq9vlvyj8cqvq6ggvpwd53jncp9nwc47xlrsnenq2zp70fq83qlgesn4u3uyf4tesfkkwwfg3qs54qe426hp3tz7z6sweqdjg05axsrjqp9yrrwc",
        spec_list(),
    ),
    "amount in pico-bitcoin": (
        "lnbc9678785340p1pwmna7lpp5gc3xfm08u9qy06djf8dfflhugl6p7lgza6dsjxq454gxhj9t7a0sd8dgfkx7cmtwd68yetpd5s9xar0wfjn5gpc8qhrsdfq24f5ggrxdaezqsnvda3kkum5wfjkzmfqf3jkgem9wgsyuctwdus9xgrcyqcjcgpzgfskx6eqf9hzqnteypzxz7fzypfhg6trddjhygrcyqezcgpzfysywmm5ypxxjemgw3hxjmn8yptk7untd9hxwg3q2d6xjcmtv4ezq7pqxgsxzmnyyqcjqmt0wfjjq6t5v4khxsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygsxqyjw5qcqp2rzjq0gxwkzc8w6323m55m4jyxcjwmy7stt9hwkwe2qxmy8zpsgg7jcuwz87fcqqeuqqqyqqqqlgqqqqn3qq9q9qrsgqrvgkpnmps664wgkp43l22qsgdw4ve24aca4nymnxddlnp8vh9v2sdxlu5ywdxefsfvm0fq3sesf08uf6q9a2ke0hc9j6z6wlxg5z5kqpu2v9wz",
        spec(
            967_878_534,
            'Blockstream Store: 88.85 USD for Blockstream Ledger Nano S x 1, "Back In My Day" Sticker x 2, "I Got Lightning Working" Sticker x 2 and 1 more items',
            expiry=604_800,
            created_at=1572468703,
            payment_hash=bytes.fromhex(
                "462264ede7e14047e9b249da94fefc47f41f7d02ee9b091815a5506bc8abf75f"
            ),
        ),
    ),
    "features": (COFFEE_BEANS, spec(2_500_000_000, "coffee beans")),
    "upper case": (COFFEE_BEANS.upper(), spec(2_500_000_000, "coffee beans")),
    "fields to be skipped": (
        "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqqsgq2qrqqqfppnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqppnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqpp4qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqhpnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqhp4qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqspnqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqsp4qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqnp5qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqnpkqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqz599y53s3ujmcfjp5xrdap68qxymkqphwsexhmhr8wdz5usdzkzrse33chw6dlp3jhuhge9ley7j2ayx36kawe7kmgg8sv5ugdyusdcqzn8z9x",
        spec(2_500_000_000, "coffee beans"),
    ),
    "metadata": (
        "lnbc10m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdp9wpshjmt9de6zqmt9w3skgct5vysxjmnnd9jx2mq8q8a04uqsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q2gqqqqqqsgq7hf8he7ecf7n4ffphs6awl9t6676rrclv9ckg3d3ncn7fct63p6s365duk5wrk202cfy3aj5xnnp5gs3vrdvruverwwq7yzhkf5a3xqpd05wjc",
        spec(1_000_000_000, "payment metadata inside"),
    ),
    "signature with a high S": (
        "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap2r09nt4ndd0unm3z9u5t48y6ucv4r5sg7lk98c77ctvjczkspk5qprc90gx",
        spec(None, "Please consider supporting this project"),
    ),
}

# Refused by a payer for its signature or features, which are not ours to judge.
SPEC_FOR_THE_PAYER = {
    "unknown feature 100": (
        "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q4psqqqqqqqqqqqqqqqqsgqtqyx5vggfcsll4wu246hz02kp85x4katwsk9639we5n5yngc3yhqkm35jnjw4len8vrnqnf5ejh0mzj9n3vz2px97evektfm2l6wqccp3y7372",
        spec(2_500_000_000, "coffee beans"),
    ),
    "signature not recoverable": (
        "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpusp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9qrsgqwgt7mcn5yqw3yx0w94pswkpq6j9uh6xfqqqtsk4tnarugeektd4hg5975x9am52rz4qskukxdmjemg92vvqz8nvmsye63r5ykel43pgz7zq0g2",
        spec(250_000_000, "1 cup coffee", expiry=60),
    ),
    "no payment secret": (
        "lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqs9qrsgq7ea976txfraylvgzuxs8kgcw23ezlrszfnh8r6qtfpr6cxga50aj6txm9rxrydzd06dfeawfk6swupvz4erwnyutnjq7x39ymw6j38gp49qdkj",
        spec_list(payment_secret=None),
    ),
}

SPEC_INVALID = {
    "checksum": (
        "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrnt",
        "wrong checksum",
    ),
    "no separator": (
        "pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrny",
        "not bech32",
    ),
    "mixed case": (
        "LNBC2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrny",
        "single case",
    ),
    "too short": (
        "lnbc1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6na6hlh",
        "too short",
    ),
    "multiplier": (
        "lnbc2500x1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpusp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9qrsgqrrzc4cvfue4zp3hggxp47ag7xnrlr8vgcmkjxk3j5jqethnumgkpqp23z9jclu3v0a7e0aruz366e9wqdykw6dxhdzcjjhldxq0w6wgqcnu43j",
        "malformed amount",
    ),
    "a tenth of a msat": (
        "lnbc2500000001p1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpusp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9qrsgq0lzc236j96a95uv0m3umg28gclm5lqxtqqwk32uuk4k6673k6n5kfvx3d2h8s295fad45fdhmusm8sjudfhlf6dcsxmfvkeywmjdkxcp99202x",
        "whole number of msat",
    ),
}


def lnd(msat, payment_hash, secret, description="", seconds=1, expiry=86_400):
    """The decoded form of an invoice that lnd 0.21.2 issued on regtest; seconds from the first."""
    return PaymentRequest(
        network="regtest",
        msat=msat,
        payment_hash=bytes.fromhex(payment_hash),
        created_at=1795362230 + seconds,
        expiry=expiry,
        description=description,
        description_hash=None,
        payment_secret=bytes.fromhex(secret),
    )


LND = {
    "10 sat": (
        "lnbcrt100n1p4sxrdkpp5grvx6awdn0jyc9j56zdx4dg3px6ayt2g29llm2zlwfcnczlel8usdq8fs6rqvscqzzsxqzjcsp5fzf27jzaqzkdy5wmfvmj5jklkxpuvl82uprqpe75k2g0vs8gj2eq9qxpqysgqlyavh6cj537esqzp0k0caqfe03skz4fvec0sx9eenjnfk70y3m6z2ulx5ddhaz4h04jjkusnu0nqz6wpw45jxw9x3keuhpg6dpddnzsq9ckq7z",
        lnd(
            10_000,
            "40d86d75cd9be44c1654d09a6ab51109b5d22d48517ffda85f72713c0bf9f9f9",
            "4892af485d00acd251db4b372a4adfb183c67ceae04600e7d4b290f640e892b2",
            "L402",
            seconds=0,
            expiry=600,
        ),
    ),
    "no amount": (
        "lnbcrt1p4sxrdhpp5hsghl8uzdcje8ray4scvgr2hrfqaqhpps3zljrpg2nuzl9a43pjqdqqcqzzsxqyz5vqsp5c2n682ah83426jud40mxkr4ck78ksuruc3k3tkvaw5mez078mccq9qxpqysgqvh9a5tk0ttkmx7a4dk857x2hcaugksuvynvpekrmsuv7vc5zszg8fvl3zdmr5927ukrm3q0w2uzrm896v0psgckd8kd9crz7ac7curcp833clf",
        lnd(
            None,
            "bc117f9f826e25938fa4ac30c40d571a41d05c218445f90c2854f82f97b58864",
            "c2a7a3abb73c6aad4b8dabf66b0eb8b78f68707cc46d15d99d7537913fc7de30",
        ),
    ),
    "1 msat": (
        "lnbcrt10p1p4sxrdhpp5ysdtvfltmkj9zz2z7wpnu5vr0tj8vp3zuv9gw6vdw8682r49sn3sdqqcqzzsxqyz5vqsp5k7u3j986vryp2ctsct70lq6gdtfm4p7z5dc4fslcp3puk4smu2yq9qxpqysgq3wqspwsupuc7jsv9h3rljsp5dxlk0qn6c9hzzpe4ww75wgdudzgp0l9gqz7q0luk0xyd43l5fu7ng5f2rjwmghydkdy4vpk6qs5hmncpp6f8tp",
        lnd(
            1,
            "241ab627ebdda4510942f3833e51837ae4760622e30a87698d71f4750ea584e3",
            "b7b91914fa60c8156170c2fcff83486ad3ba87c2a37154c3f80c43cb561be288",
        ),
    ),
    "1000 BTC": (
        "lnbcrt10001p4sxrdhpp57uh3d57yta8rt6gs36fnm3w65xu5qe0yk8hzc3xdqdh7ly7h9vaqdqqcqzzsxqyz5vqsp5s0g0xpmrdhar7jt9jdvl3xf8klvrc4k4tkeh5808zrf3tjty800q9qxpqysgqpkvwpv463el5xn26x8qrc22p9n92damjmpftj9zdgcxvz4y69vu959np4ld7srcfxuh85a96klsnhcvgdptadu20pc0t5ghur32ud0gq5l8zwa",
        lnd(
            10**14,
            "f72f16d3c45f4e35e9108e933dc5daa1b94065e4b1ee2c44cd036fef93d72b3a",
            "83d0f307636dfa3f49659359f89927b7d83c56d55db37a1de710d315c9643bde",
        ),
    ),
    "description of 639 bytes": (
        "lnbcrt10n1p4sxrdhpp5ekd8hdr6f4fl0afel6sj2gu2ct3wfunc929uv7zfenlysv655gqqdll0"
        + 127 * "pu8s7rc0"
        + "pu8s7qcqzzsxqyz5vqsp5s20sp06sej45tytstzds6nxlsenwtez5nvcp683ql94axrf2rlrs9qxpqysgq47h267kce9dw56sth8j7drjhmtekxtdqle8mu86dn4xeegw6h654qhj9cpykal0m9fph6d09t2q8wq0pn0yeaddalns4dnqpphx47tsq98djeg",
        lnd(
            1_000,
            "cd9a7bb47a4d53f7f539fea125238ac2e2e4f2782a8bc67849ccfe483354a200",
            "829f00bf50ccab459170589b0d4cdf8666e5e4549b301d1e20f96bd30d2a1fc7",
            639 * "x",
        ),
    ),
    "one second": (
        "lnbcrt100n1p4sxrdhpp5j6du8hlrykzghf44ms69q0psda54kwjmy4n80ew5405py2tf59kqdqyveuqcqzzsxqppsp58nyzczrn9m74mqpvgpu957ggtz9gf7fcphvuppa7ezj89x0nsprq9qxpqysgqaknkpsd8vas89f2l79z74k2k9rtt9ehca4eya6yfg6nt3dm83s0r2ue5ljl40har9x4vel33h3yksuk2p2j2zu7r00emu3rvd95sy5gqyn0htl",
        lnd(
            10_000,
            "969bc3dfe325848ba6b5dc34503c306f695b3a5b256677e5d4abe8122969a16c",
            "3cc82c08732efd5d802c40785a7908588a84f9380dd9c087bec8a47299f38046",
            "fx",
            expiry=1,
        ),
    ),
}

DECODABLE = SPEC_VALID | LND


def letters(octets):
    """Bytes as bech32 letters, by the reference implementation."""
    return "".join(LETTERS[value] for value in bech32.convertbits(octets, 8, 5))


def field(tag, data):
    """A tagged field of bytes, or of bech32 letters as they stand."""
    data = data if isinstance(data, str) else letters(data)
    return tag + LETTERS[len(data) >> 5] + LETTERS[len(data) & 31] + data


def sealed(hrp, data):
    """Any data letters behind a right checksum."""
    return bech32.bech32_encode(hrp, [LETTERS.index(letter) for letter in data])


def invoice(*fields, hrp="lnbcrt10n", timestamp="pvjluez"):
    """An invoice of these fields with a good signature."""
    data = timestamp + "".join(fields)
    bits = bech32.convertbits([LETTERS.index(letter) for letter in data], 5, 8)
    signature = PrivateKey(b"\x01" * 32).sign_recoverable(hrp.encode() + bytes(bits))
    return sealed(hrp, data + letters(signature))


P = field("p", b"\x02" * 32)
S = field("s", b"\x03" * 32)
D = field("d", b"cup")
H = field("h", b"\x04" * 32)
X = field("x", "pu")


def seen_by_oracle(text):
    """What the `bolt11` package reads in an invoice, in our form."""
    seen = oracle.decode(text, ignore_exceptions=True)
    secret, description_hash = seen.payment_secret, seen.description_hash
    return PaymentRequest(
        network=NETWORKS[seen.currency.encode()],
        msat=seen.amount_msat,
        payment_hash=bytes.fromhex(seen.payment_hash),
        created_at=seen.date,
        expiry=seen.expiry,
        description=seen.description,
        description_hash=None if description_hash is None else bytes.fromhex(description_hash),
        payment_secret=None if secret is None else bytes.fromhex(secret),
    )


def decode_or_refuse(text):
    """None where the text is refused; any other exception than the documented one fails a test."""
    try:
        return decode(text)
    except InvalidInvoice:
        return None


@pytest.mark.parametrize(("text", "expected"), DECODABLE.values(), ids=DECODABLE)
def test_decodes_known_invoices(text, expected):
    """The specification's and lnd's invoices decode to what they were made from."""
    assert decode(text) == expected
    assert seen_by_oracle(text) == expected


@pytest.mark.parametrize(("text", "expected"), SPEC_FOR_THE_PAYER.values(), ids=SPEC_FOR_THE_PAYER)
def test_leaves_signature_and_features_to_the_payer(text, expected):
    """What only concerns the payer does not make an invoice unreadable."""
    assert decode(text) == expected


@pytest.mark.parametrize(("text", "reason"), SPEC_INVALID.values(), ids=SPEC_INVALID)
def test_refuses_the_invalid_examples(text, reason):
    """The specification's invalid examples are refused, each for its own reason."""
    with pytest.raises(InvalidInvoice, match=reason):
        decode(text)


@pytest.mark.parametrize("name", SPEC_INVALID.keys() - {"a tenth of a msat"})
def test_invalid_examples_are_invalid_elsewhere(name):
    """The other decoder refuses the invalid examples too, but for an amount that it cuts off."""
    with pytest.raises(oracle.Bolt11Exception):
        oracle.decode(SPEC_INVALID[name][0])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([D], "no payment hash"),
        ([P[:1] + "pn" + P[3:-1], D], "no payment hash"),
        ([P, D, P], "more than one field p"),
        ([P, D, D], "more than one field d"),
        ([P, D, S, S], "more than one field s"),
        ([P, D, X, X], "more than one field x"),
        ([P, H, H], "more than one field h"),
        ([P], "neither or both"),
        ([P, D, H], "neither or both"),
        ([P, field("h", b"\x04" * 31)], "neither or both"),
        ([P[:-1] + "l", D], "padding"),
        ([P, D, S[:-1] + "l"], "padding"),
        ([P, H[:-1] + "l"], "padding"),
        ([P, field("d", "qqq")], "padding"),
        ([P, field("d", "q")], "padding"),
        ([P, field("d", b"\xff")], "UTF-8"),
        ([P, field("d", "ナ".encode()[:-1])], "UTF-8"),
        ([P, field("d", b"\xed\xa0\x80")], "UTF-8"),
        ([P, D, field("x", "pqqqqqqq")], "35 bits"),
        ([P, D, field("x", "l" * 1023)], "35 bits"),
        ([P, D, "y"], "runs into"),
        ([P, D, "yq"], "runs into"),
        ([P, D, "yqpqyqp"], "runs into"),
        ([P, D, "yllq"], "runs into"),
    ],
)
def test_refuses_malformed_fields(fields, reason):
    """Missing, repeated, cut and badly padded fields are refused behind a right checksum too."""
    with pytest.raises(InvalidInvoice, match=reason):
        decode(invoice(*fields))


@pytest.mark.parametrize(
    "hrp",
    [
        "lnbcrt0n",
        "lnbcrt0",
        "lnbcrt01n",
        "lnbcrtn",
        "lnbcrt1k",
        "lnbcrt1.5u",
        "lnbcrt-1u",
        "lnbcrt+1u",
        "lnbcrt1_0u",
        "lnbcrt1uu",
        "lnbcrt15p",
        "lnbcrt" + 21 * "9",
        "lnbc" + 5000 * "9" + "n",
        "lnsb10n",
        "lnltc10n",
        "lntbx10n",
        "ln10n",
        "lno10n",
        "bc10n",
        "10n",
    ],
)
def test_refuses_unknown_networks_and_malformed_amounts(hrp):
    """Only the four networks and plain positive amounts in whole msat are read."""
    with pytest.raises(InvalidInvoice, match="amount"):
        decode(invoice(P, D, hrp=hrp))


@pytest.mark.parametrize(
    ("hrp", "network", "msat"),
    [
        ("lnbc10p", "mainnet", 1),
        ("lntb1n", "testnet", 100),
        ("lntbs1u", "signet", 100_000),
        ("lnbcrt1m", "regtest", 100_000_000),
        ("lnbc1", "mainnet", 100_000_000_000),
        ("lnbc21000000", "mainnet", 21_000_000 * 10**11),
        ("lntbs", "signet", None),
    ],
)
def test_reads_networks_and_multipliers(hrp, network, msat):
    """Every prefix names its network, every multiplier its power of ten."""
    text = invoice(P, D, hrp=hrp)
    assert (decode(text).network, decode(text).msat) == (network, msat)
    assert seen_by_oracle(text) == decode(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "ln",
        "lnbcrt1",
        "lnbcrt1qqqqqq",
        " " + COFFEE_BEANS,
        COFFEE_BEANS + "\n",
        COFFEE_BEANS + "\0",
        "lightning:" + COFFEE_BEANS,
        COFFEE_BEANS[:-1],
        COFFEE_BEANS + "q",
        COFFEE_BEANS.replace("k", "\N{KELVIN SIGN}"),
        COFFEE_BEANS.replace("5", "\N{FULLWIDTH DIGIT FIVE}"),
        COFFEE_BEANS + "\ud800",
        COFFEE_BEANS.replace("l", "L", 1),
        COFFEE_BEANS.upper().replace("L", "l", 1),
    ],
)
def test_refuses_other_text(text):
    """Whatever is not exactly an invoice is refused, look-alikes and wrappings included."""
    with pytest.raises(InvalidInvoice):
        decode(text)


@pytest.mark.parametrize("length", [110, 111])
def test_needs_room_for_timestamp_and_signature(length):
    """Data without both a timestamp and a signature is refused whatever it holds."""
    with pytest.raises(InvalidInvoice, match="too short" if length < 111 else "no payment hash"):
        decode(sealed("lnbcrt10n", length * "q"))


def test_refuses_more_than_7089_characters():
    """The longest invoice has 7089 characters."""
    full, rest = divmod(7089 - len(invoice(P, D)), 1026)
    filler = full * field("y", 1023 * "q") + field("y", (rest - 3) * "q")
    assert len(invoice(P, D, filler)) == 7089
    assert decode(invoice(P, D, filler)).description == "cup"
    with pytest.raises(InvalidInvoice, match="longer than 7089"):
        decode(invoice(P, D, filler + field("y", "")))


def test_refuses_an_endless_text_at_once():
    """A text far beyond the limit costs no work that grows with it."""
    with pytest.raises(InvalidInvoice, match="longer than 7089"):
        decode("lnbc1" + 10_000_000 * "q")


def test_expiry_has_a_default_and_an_end():
    """An invoice without an expiry is good for an hour after its timestamp."""
    assert decode(invoice(P, D)).expires_at == SPEC_TIME + 3600
    assert decode(invoice(P, D, X)).expires_at == SPEC_TIME + 60
    assert decode(invoice(P, D, field("x", "qqqqqqqpu"))).expiry == 60
    assert decode(invoice(P, D, field("x", ""))).expiry == 0
    assert decode(invoice(P, D, field("x", "lllllll"))).expiry == 2**35 - 1


@given(
    hrp=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).map(str.lower),
    data=st.text(LETTERS),
)
@settings(deadline=None)
def test_checksum_is_bech32s(hrp, data):
    """The checksum equals that of BIP 173's reference code."""
    closed = f"{hrp}1{data}{checksum(hrp.encode(), data.encode()).decode()}"
    assert closed == sealed(hrp, data)


@given(
    msat=st.integers(1, 21_000_000 * 10**11),
    description=st.text(max_size=639).filter(lambda text: len(text.encode()) <= 639),
    expiry=st.integers(1, 2**35 - 1),
    now=st.floats(0, 2**35 - 1),
)
@settings(deadline=None)
def test_reads_what_the_simulated_node_writes(msat, description, expiry, now):
    """Encoding and decoding are inverse, and the other decoder agrees."""
    issued = SimulatedNode(b"k" * 32, lambda: now).create_invoice(msat, description, expiry)
    request = decode(issued.bolt11)
    asked = ("regtest", msat, issued.payment_hash, int(now), expiry, description)
    assert asked == (
        request.network,
        request.msat,
        request.payment_hash,
        request.created_at,
        request.expiry,
        request.description,
    )
    assert seen_by_oracle(issued.bolt11) == request


@given(
    fields=st.lists(
        st.one_of(
            st.builds(field, st.sampled_from("psh"), st.binary(min_size=31, max_size=33)),
            st.builds(field, st.just("d"), st.text(max_size=9).map(str.encode)),
            st.builds(field, st.just("x"), st.text(LETTERS, min_size=1, max_size=8)),
            st.builds(field, st.sampled_from("yz2"), st.text(LETTERS, max_size=40)),
        ),
        max_size=5,
    ),
    order=st.randoms(use_true_random=False),
    described=st.sampled_from([D, H]),
)
@settings(deadline=None, max_examples=300)
def test_agrees_with_another_decoder(fields, order, described):
    """Whatever we accept (about a third of these), the other decoder reads the same way."""
    fields += [P, described]
    order.shuffle(fields)
    text = invoice(*fields)
    request = decode_or_refuse(text)
    assert request is None or seen_by_oracle(text) == request


@given(st.one_of(st.text(), st.text(LETTERS + "1b", max_size=400), st.from_regex("LNBC[0-9a-z]*")))
@settings(deadline=None, max_examples=2000)
def test_any_text_is_refused_or_read(text):
    """No text raises anything but `InvalidInvoice`."""
    decode_or_refuse(text)


@given(
    st.sampled_from([text for text, _ in DECODABLE.values()]),
    st.integers(0),
    st.characters(),
    st.integers(0, 2),
)
@settings(deadline=None, max_examples=2000)
def test_one_changed_character_is_refused_or_read(text, place, character, cut):
    """No insertion, replacement or deletion in a good invoice raises another exception."""
    place %= len(text) + 1
    decode_or_refuse(text[:place] + character * (cut < 2) + text[place + cut :])


@given(
    st.sampled_from([text for text, _ in DECODABLE.values()]).map(str.lower),
    st.lists(st.tuples(st.integers(0), st.text(LETTERS, max_size=3)), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=2000)
def test_changes_behind_a_right_checksum_are_refused_or_read(text, edits):
    """Where the checksum does not help, no broken field raises another exception."""
    hrp, _, data = text.rpartition("1")
    data = data[:-6]
    for place, new in edits:
        place %= len(data) + 1
        data = data[:place] + new + data[place + len(new) :]
    decode_or_refuse(sealed(hrp, data))


@given(
    st.sampled_from([text for text, _ in LND.values()]),
    st.sets(st.integers(0), min_size=1, max_size=4),
    st.data(),
)
@settings(deadline=None, max_examples=500)
def test_up_to_four_replaced_letters_are_noticed(text, places, data):
    """The checksum catches one to three replaced letters for certain at these lengths, and lets
    four pass once in a thousand million times.
    """
    start = text.rindex("1") + 1
    changed = list(text)
    for place in places:
        place = start + place % (len(text) - start)
        changed[place] = data.draw(st.sampled_from(LETTERS.replace(text[place], "")))
    with pytest.raises(InvalidInvoice, match="checksum"):
        decode("".join(changed))
