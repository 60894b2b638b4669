// Takes orders from the test's desk, one at a time, and says how each went.
export async function serve(desk, buy) {
  for (;;) {
    const order = await (await fetch(`${desk}/order`)).json();
    if (order === null) return;
    await post(`${desk}/answer`, await outcome(order, buy));
  }
}

// Returns the preimage of a paid invoice; the desk's wallet speaks as lnd does.
export async function pay(desk, invoice) {
  const paid = await post(`${desk}/v2/router/send`, { payment_request: invoice });
  return (await paid.json()).result.payment_preimage;
}

async function outcome(order, buy) {
  try {
    const response = await buy(order);
    return { status: response.status, text: await response.text() };
  } catch (error) {
    return { error: String(error.stack ?? error) };
  }
}

function post(url, body) {
  return fetch(url, { method: "POST", body: JSON.stringify(body) });
}
