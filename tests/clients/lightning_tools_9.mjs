// @getalby/lightning-tools 9: it hands the credential to its caller, who shows it the next time.
// Shared by Node and the browser.
import { pay } from "./orders.mjs";

export function buyer(fetchWithL402, desk) {
  const wallet = { payInvoice: async ({ invoice }) => ({ preimage: await pay(desk, invoice) }) };
  let credentials;
  return async ({ url, init, afresh }) => {
    if (afresh) credentials = undefined;
    const response = await fetchWithL402(url, init, { wallet, credentials });
    credentials = response.payment?.credentials ?? credentials;
    return response;
  };
}
