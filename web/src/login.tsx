// The page for who is not signed in.
import { useEffect, useState } from 'preact/hooks'
import { ask } from './api'
import { Failure, useAsked } from './ui'

interface Ways { oidc?: { button: string, url: string } }

// What the server says by a word, so that nobody puts a text of his own here by a link.
const refused: Record<string, string> = {
  provider_unreachable: 'The sign-in provider does not answer as it should. Try again in a minute, or sign in with an API key.',
  busy: 'Many sign in at the moment. Try again in a few seconds.',
  provider_refused: 'The provider has not let you in.',
  begin_again: 'This sign-in was begun in another browser, or more than ten minutes ago. Begin again.',
  not_trusted: 'The answer of the provider could not be trusted, so nobody was signed in. If it happens again, tell an administrator: the log has the reason.',
  email_missing: 'The provider does not say which e-mail address is yours.',
  email_not_verified: 'The provider has not verified your e-mail address. Verify it there, then sign in again.',
  domain_not_allowed: 'E-mail addresses of your domain may not sign in here.',
  no_account: 'Nobody here has your e-mail address. Ask an administrator to make you an account.',
  other_account: 'The account with your e-mail address belongs to another person at the provider. Ask an administrator.',
  store: 'The server could not write. Try again in a minute.',
}

export function Login({ entered, ended }: { entered: () => void, ended?: string }) {
  const [key, setKey] = useState('')
  const [error, setError] = useState<Error>()
  const { oidc } = useAsked<Ways>('/v1/login').value ?? {}
  const enter = (body: object) => ask('POST', '/v1/session', body).then(entered, setError)
  // What a login link has stands behind the #; it works once, so it leaves the address at once.
  useEffect(() => {
    const loginToken = location.hash.slice(1)
    if (!loginToken || location.pathname !== '/login') return // elsewhere it is a place on the page
    history.replaceState(null, '', location.pathname)
    void enter({ loginToken })
  }, [])
  const why = new URLSearchParams(location.search).get('refused')
  const here = location.pathname === '/login' || location.pathname === '/' ? '/agents' : location.pathname + location.search
  return <main class="login">
    <h1>Bullpen</h1>
    {why !== null && <p class="failure" role="alert">{refused[why] ?? 'You were not signed in.'}</p>}
    {ended && <p role="status">You are signed out here. <a href={ended}>Sign out of the provider, too</a></p>}
    {oidc && <p><a class="button primary" href={`${oidc.url}?returnTo=${encodeURIComponent(here)}`}>{oidc.button}</a></p>}
    <form class="card" onSubmit={e => { e.preventDefault(); void enter({ apiKey: key.trim() }) }}>
      <label for="key">API key</label>
      <input id="key" type="password" autocomplete="current-password" value={key} required onInput={e => setKey(e.currentTarget.value)} />
      <div class="bar"><button class="primary" disabled={!key.trim()}>Sign in</button></div>
      <Failure error={error} />
      <p class="dim">Or open the link that <code>bullpen admin login-link</code> prints.</p>
    </form>
  </main>
}
