"""A very small client of the cloud's public APIs: nothing but requests, so that half-finished clouds can be probed."""
import collections
import os
import re

ALIASES = {
    'volume': ('block-storage', 'block-store', 'volumev3', 'volume'),
    'compute': ('compute',),
    'image': ('image',),
    'network': ('network',),
    'identity': ('identity',),
    'placement': ('placement',),
    'object-store': ('object-store', 'object-storage'),
    'orchestration': ('orchestration',),
    'alarming': ('alarming', 'alarm'),
    'metric': ('metric',),
    'metering': ('metering',),
    'dashboard': ('dashboard',),
}
FINE = (200, 201, 202, 203, 204)


class Cloud:
    """The cloud that the OS_* variables name."""

    def __init__(self, timeout=60):
        import requests

        env = os.environ
        self.session = requests.Session()
        if env.get('OS_CACERT'):
            self.session.verify = env['OS_CACERT']
        if env.get('OS_INSECURE', '').lower() in ('1', 'true', 'yes'):
            self.session.verify = False
        self.timeout = timeout
        url = env.get('OS_AUTH_URL', 'http://127.0.0.1:5000/v3').rstrip('/')
        self.auth_url = url if url.endswith('/v3') else url + '/v3'
        self.user, self.password = env.get('OS_USERNAME', 'admin'), env.get('OS_PASSWORD', '')
        self.project = env.get('OS_PROJECT_NAME', 'admin')
        self.user_domain = env.get('OS_USER_DOMAIN_NAME') or env.get('OS_USER_DOMAIN_ID') or 'Default'
        self.project_domain = env.get('OS_PROJECT_DOMAIN_NAME') or env.get('OS_PROJECT_DOMAIN_ID') or 'Default'
        self.region = env.get('OS_REGION_NAME', '')
        self.interface = env.get('OS_INTERFACE', 'public').replace('URL', '')
        self.token, self.catalog, self.ok, self.domain_id = None, [], False, 'default'

    def login(self):
        user = {'name': self.user, 'domain': {'name': self.user_domain}, 'password': self.password}
        scope = {'project': {'name': self.project, 'domain': {'name': self.project_domain}}}
        body = {'auth': {'identity': {'methods': ['password'], 'password': {'user': user}}, 'scope': scope}}
        reply = self.session.post(self.auth_url + '/auth/tokens', json=body, timeout=self.timeout)
        reply.raise_for_status()
        self.token = reply.headers['X-Subject-Token']
        token = reply.json()['token']
        self.catalog = token.get('catalog', [])
        self.project_id, self.user_id = token['project']['id'], token['user']['id']
        self.domain_id = token['user'].get('domain', {}).get('id', 'default')
        self.region = self.region or self.usual_region()
        self.ok = True

    def usual_region(self):
        regions = [it.get('region_id') or it.get('region') for service in self.catalog for it in service['endpoints']]
        named = collections.Counter(region for region in regions if region)
        return named.most_common(1)[0][0] if named else 'RegionOne'

    def find(self, service):
        """The catalog type that is really used and the endpoint's URL, or two Nones."""
        for kind in ALIASES.get(service, (service,)):
            for entry in self.catalog:
                for endpoint in entry['endpoints'] if entry['type'] == kind else ():
                    region = endpoint.get('region_id') or endpoint.get('region')
                    if endpoint['interface'] == self.interface and region in (self.region, None):
                        return kind, endpoint['url'].rstrip('/')
        return None, None

    def base(self, service, version):
        """The version to put before a path, unless the endpoint has one already."""
        return '' if re.search(r'/v\d', self.find(service)[1] or '') else version

    def __call__(self, method, service, path, body=None, ok=FINE, headers=None, data=None, timeout=None):
        url = (self.auth_url if service == 'identity' else self.find(service)[1] or '') + path
        if not url.startswith('http'):
            raise RuntimeError(f'no {service} endpoint in the catalog')
        headers = {'X-Auth-Token': self.token, 'Accept': 'application/json', **(headers or {})}
        reply = self.session.request(method, url, json=body, data=data, headers=headers, timeout=timeout or self.timeout)
        if ok and reply.status_code not in ok:
            raise RuntimeError(f'{method} {url} -> {reply.status_code} {reply.text[:200]}')
        try:
            return reply.json()
        except ValueError:
            return {}

    def plain(self, url):
        """The JSON behind any URL, whatever the answer's code."""
        headers = {'X-Auth-Token': self.token, 'Accept': 'application/json'}
        return self.session.get(url, headers=headers, timeout=self.timeout).json()

    def microversion(self, service):
        """The highest microversion that the service announces, from its version document."""
        url, best = self.find(service)[1], None
        for place in (url, re.sub(r'(/v\d[\d.]*).*$', r'\1/', url), re.sub(r'/v\d.*$', '/', url)):
            try:
                document = self.plain(place)
            except Exception:
                continue
            versions = document.get('versions', [document.get('version')] if document.get('version') else [])
            for version in versions if isinstance(versions, list) else []:
                number = (version or {}).get('version') or (version or {}).get('max_version')
                order = lambda it: [int(part) for part in it.split('.')]
                if number and (best is None or order(number) > order(best)):
                    best = number
        return best
