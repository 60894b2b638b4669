"""L402 as bytes and text: no Flask, no SQL, no network; the clock is passed in."""
