// An authorization server for the stories of tokens: oidc-provider, with one client that may ask for
// tokens by client credentials.
//
// Arguments: the directory of the library, a port of loopback, the client's id, its secret, its way
// (client_secret_basic or client_secret_post), and how many seconds a token lasts. Says `listening` when
// it does, then a line for each token, `token VALUE SCOPE`, and for each refusal, `refused ERROR`.
import { pathToFileURL } from "node:url";

const [library, port, client_id, client_secret, token_endpoint_auth_method, life] =
  process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${library}/lib/index.js`).href);

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id,
      client_secret,
      token_endpoint_auth_method,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  scopes: ["send", "orders:write"],
  features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
  ttl: { ClientCredentials: Number(life) },
});
provider.on("client_credentials.saved", (token) => console.log(`token ${token.jti} ${token.scope}`));
provider.on("grant.error", (_, error) => console.log(`refused ${error.message}`));
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
