// @getalby/lightning-tools 5: it keeps one token for each URL in the store it is given.
import { pay } from "./orders.mjs";

export function buyer({ fetchWithL402, MemoryStorage }, desk) {
  const webln = {
    enable: async () => {},
    sendPayment: async (invoice) => ({ preimage: await pay(desk, invoice) }),
  };
  let store = new MemoryStorage();
  return async ({ url, init, afresh }) => {
    if (afresh) store = new MemoryStorage();
    return fetchWithL402(url, init, { webln, store });
  };
}
