// node node.mjs VERSION MODULES DESK: buys with lightning-tools VERSION out of the folder MODULES.
import { createRequire } from "node:module";
import { serve } from "./orders.mjs";
import * as five from "./lightning_tools_5.mjs";
import * as nine from "./lightning_tools_9.mjs";

const [version, modules, desk] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const buyers = {
  5: () => five.buyer(require("lightning-tools-5"), desk),
  9: () => nine.buyer(require("lightning-tools-9/402").fetchWithL402, desk),
};
await serve(desk, buyers[version]());
