"""Makes what tempest needs in the cloud, and writes tempest.conf. Every step may fail without stopping the others."""
import configparser
import hashlib
import json
import os
import re
import sys
import time

from rest import ALIASES, Cloud

NOTHING = '00000000-0000-0000-0000-000000000000'
# Limit: how long an uploaded image may take to become active.
IMAGE_SECONDS = 120
UPLOAD_SECONDS = 900


def say(*words):
    print(time.strftime('%H:%M:%S'), *words, file=sys.stderr, flush=True)


class Preparation:
    def __init__(self, options):
        self.options, self.cloud = options, Cloud()
        self.info, self.problems = {}, []

    def step(self, name, make):
        try:
            self.info[name] = made = make()
            say('prepare', name, '->', f'{len(made)} entries' if isinstance(made, list) else made)
        except Exception as error:
            self.problems.append(f'{name}: {error}')
            say('prepare', name, 'FAILED:', str(error)[:300])
            self.info[name] = None

    def has(self, service):
        return self.cloud.ok and service in self.info['services']

    def run(self):
        cloud, options, step = self.cloud, self.options, self.step
        step('login', lambda: cloud.login() or 'ok')
        self.info['services'] = sorted(name for name in ALIASES if cloud.find(name)[0]) if cloud.ok else []
        if self.has('compute'):
            step('flavor', lambda: self.flavor('m1.nano', options.nano_ram))
            step('flavor_alt', lambda: self.flavor('m1.micro', options.micro_ram))
            step('compute_nodes', self.compute_nodes)
            step('compute_microversion', lambda: cloud.microversion('compute'))
        if self.has('image') and options.image:
            step('image', lambda: self.image('qa-tempest-image'))
            step('image_alt', lambda: self.image('qa-tempest-image-alt'))
        if self.has('network'):
            step('public', self.public_network)
            step('network_extensions', lambda: self.extensions('network', cloud.base('network', '/v2.0')))
        if cloud.ok:
            step('roles', lambda: [self.role(name) for name in ('member', 'reader')])
        if self.has('object-store'):
            step('swift_roles', lambda: [self.role('ResellerAdmin')])
            step('swift_info', self.swift_info)
        if self.has('volume'):
            step('volume_microversion', lambda: cloud.microversion('volume'))
            step('volume_extensions', lambda: self.extensions('volume', self.volumes()))
            step('multiattach', self.multiattach)
        if self.has('placement'):
            step('placement_microversion', lambda: cloud.microversion('placement'))
        if self.has('orchestration'):
            step('demo', self.demo_user)
            if self.has('network') and self.info.get('demo'):
                step('heat_net', self.heat_network)
        self.write()

    # What is made, one by one.

    def flavor(self, name, ram):
        for flavor in self.cloud('GET', 'compute', '/flavors/detail?is_public=None')['flavors']:
            if flavor['name'] == name:
                return flavor['id']
        wanted = {'name': name, 'ram': ram, 'vcpus': 1, 'disk': 1, 'os-flavor-access:is_public': True}
        return self.cloud('POST', 'compute', '/flavors', {'flavor': wanted})['flavor']['id']

    def compute_nodes(self):
        services = self.cloud('GET', 'compute', '/os-services')['services']
        return sum(it['binary'] == 'nova-compute' and it['state'] == 'up' for it in services)

    def image(self, name):
        cloud, images = self.cloud, self.cloud.base('image', '/v2') + '/images'
        for image in cloud('GET', 'image', f'{images}?name={name}')['images']:
            if image['status'] == 'active':
                return image['id']
            if image['status'] in ('queued', 'saving'):
                cloud('DELETE', 'image', f"{images}/{image['id']}", ok=None)
        with open(self.options.image, 'rb') as file:
            disk_format = 'qcow2' if file.read(4) == b'QFI\xfb' else 'raw'
        wanted = {'name': name, 'disk_format': disk_format, 'container_format': 'bare', 'visibility': 'public'}
        image = cloud('POST', 'image', images, wanted)
        headers = {'Content-Type': 'application/octet-stream'}
        with open(self.options.image, 'rb') as file:
            cloud('PUT', 'image', f"{images}/{image['id']}/file", data=file, timeout=UPLOAD_SECONDS, headers=headers)
        for _ in range(IMAGE_SECONDS):
            if cloud('GET', 'image', f"{images}/{image['id']}")['status'] == 'active':
                return image['id']
            time.sleep(1)
        raise RuntimeError('the image did not become active')

    def public_network(self):
        wanted, networks = self.options.public_net, self.network('/networks')
        found = self.cloud('GET', 'network', networks + '?router:external=True')['networks']
        for network in found:
            if network.get('router:external') is True and (not wanted or wanted in (network['name'], network['id'])):
                return {'id': network['id'], 'name': network['name']}
        if not self.options.create_public:
            raise RuntimeError('no external network (give --create-public CIDR)')
        cidr, *rest = self.options.create_public.split(',')
        given = dict(it.split('=', 1) for it in rest)
        body = {'name': wanted or 'public', 'router:external': True, 'admin_state_up': True, 'is_default': True}
        if given.get('type'):
            body['provider:network_type'] = given['type']
        if given.get('physnet'):
            body['provider:physical_network'] = given['physnet']
        if given.get('vlan'):
            body['provider:segmentation_id'] = int(given['vlan'])
        network = self.cloud('POST', 'network', networks, {'network': body})['network']
        subnet = {'network_id': network['id'], 'name': body['name'] + '-subnet', 'cidr': cidr,
                  'ip_version': 6 if ':' in cidr else 4, 'enable_dhcp': False}
        if given.get('gateway'):
            subnet['gateway_ip'] = given['gateway']
        if given.get('pool'):
            start, end = given['pool'].split('-')
            subnet['allocation_pools'] = [{'start': start, 'end': end}]
        self.cloud('POST', 'network', self.network('/subnets'), {'subnet': subnet})
        return {'id': network['id'], 'name': network['name']}

    def network(self, path):
        return self.cloud.base('network', '/v2.0') + path

    def volumes(self):
        return self.cloud.base('volume', '/v3/' + self.cloud.project_id)

    def extensions(self, service, base):
        return sorted(it['alias'] for it in self.cloud('GET', service, base + '/extensions')['extensions'])

    def role(self, name):
        found = self.cloud('GET', 'identity', f'/roles?name={name}')['roles']
        return (found[0] if found else self.cloud('POST', 'identity', '/roles', {'role': {'name': name}})['role'])['id']

    def swift_info(self):
        return sorted(self.cloud.plain(re.sub(r'/v1.*', '/info', self.cloud.find('object-store')[1])))

    def multiattach(self):
        cloud, types, name = self.cloud, self.volumes() + '/types', 'qa-multiattach'
        if not any(it['name'] == name for it in cloud('GET', 'volume', types)['volume_types']):
            wanted = {'name': name, 'extra_specs': {'multiattach': '<is> True'}}
            cloud('POST', 'volume', types, {'volume_type': wanted})
        return name

    def demo_user(self):
        """An ordinary member account: the heat plugin cannot use dynamic credentials."""
        cloud, name = self.cloud, 'qa-demo'
        password = 'qa-demo-' + hashlib.sha1(cloud.password.encode()).hexdigest()[:12]
        wanted = {'project': {'name': name, 'domain_id': cloud.domain_id},
                  'user': {'name': name, 'password': password, 'domain_id': cloud.domain_id}}
        made = {}
        for kind, body in wanted.items():
            found = cloud('GET', 'identity', f'/{kind}s?name={name}')[kind + 's']
            made[kind] = found[0] if found else cloud('POST', 'identity', f'/{kind}s', {kind: body})[kind]
        cloud('PATCH', 'identity', '/users/' + made['user']['id'], {'user': {'password': password}}, ok=None)
        known = {it['name'] for it in cloud('GET', 'identity', '/roles')['roles']}
        for role in ('member', 'heat_stack_owner'):
            if role == 'member' or role in known:
                where = f"/projects/{made['project']['id']}/users/{made['user']['id']}/roles/{self.role(role)}"
                cloud('PUT', 'identity', where)
        return {'project': name, 'project_id': made['project']['id'], 'user': name, 'password': password}

    def heat_network(self):
        cloud, project = self.cloud, self.info['demo']['project_id']
        found = cloud('GET', 'network', self.network(f'/networks?name=heat-net&project_id={project}'))['networks']
        if found:
            return found[0]['id']
        body = {'name': 'heat-net', 'project_id': project}
        network = cloud('POST', 'network', self.network('/networks'), {'network': body})['network']
        body = {'network_id': network['id'], 'name': 'heat-subnet', 'ip_version': 4, 'cidr': '10.88.0.0/24', 'project_id': project}
        subnet = cloud('POST', 'network', self.network('/subnets'), {'subnet': body})['subnet']
        if self.info.get('public'):
            body = {'name': 'heat-router', 'project_id': project,
                    'external_gateway_info': {'network_id': self.info['public']['id']}}
            router = cloud('POST', 'network', self.network('/routers'), {'router': body})['router']
            join = self.network(f"/routers/{router['id']}/add_router_interface")
            cloud('PUT', 'network', join, {'subnet_id': subnet['id']})
        return network['id']

    # tempest.conf

    def write(self):
        folder = os.path.abspath(self.options.workspace)
        settings = configparser.RawConfigParser()
        settings.optionxform = str
        self.settings = settings
        self.write_cloud(folder)
        self.write_services()
        self.write_features(folder)
        for overlay in self.options.overlay:
            self.merge(overlay)
        for name in ('etc', 'lock', 'logs'):
            os.makedirs(f'{folder}/{name}', exist_ok=True)
        with open(folder + '/etc/tempest.conf', 'w') as file:
            settings.write(file)
        os.chmod(folder + '/etc/tempest.conf', 0o600)
        with open(folder + '/prepare.json', 'w') as file:
            json.dump({'info': self.info, 'problems': self.problems}, file, indent=1, default=str)
        if self.problems:
            say(f'prepare: {len(self.problems)} step(s) failed; the tests run anyway and will show it')

    def put(self, section, **options):
        if section != 'DEFAULT' and not self.settings.has_section(section):
            self.settings.add_section(section)
        for name, value in options.items():
            if value is not None:
                self.settings.set(section, name, str(value))

    def merge(self, overlay):
        more = configparser.RawConfigParser()
        more.optionxform = str
        if not more.read(overlay):
            raise SystemExit('cannot read overlay ' + overlay)
        self.put('DEFAULT', **more.defaults())
        for section in more.sections():
            self.put(section, **{name: value for name, value in more.items(section) if name not in more.defaults()})

    def write_cloud(self, folder):
        cloud, put = self.cloud, self.put
        put('DEFAULT', debug=False, log_dir=folder + '/logs', log_file='tempest.log', use_stderr=False)
        put('oslo_concurrency', lock_path=folder + '/lock')
        put('auth', use_dynamic_credentials=True, create_isolated_networks=True, admin_username=cloud.user,
            admin_password=cloud.password, admin_project_name=cloud.project, admin_domain_name=cloud.user_domain,
            default_credentials_domain_name=cloud.user_domain)
        put('identity', uri_v3=cloud.auth_url, uri=cloud.auth_url, auth_version='v3', region=cloud.region or 'RegionOne',
            v3_endpoint_type=cloud.interface, default_domain_id=cloud.domain_id,
            ca_certificates_file=os.environ.get('OS_CACERT'),
            disable_ssl_certificate_validation=os.environ.get('OS_INSECURE', 'false'))
        sections = {'compute': 'compute', 'network': 'network', 'image': 'image', 'volume': 'volume',
                    'object-storage': 'object-store'}
        for section, service in sections.items():
            kind = cloud.find(service)[0] or ALIASES[service][0]
            put(section, region=cloud.region, endpoint_type=cloud.interface + 'URL', catalog_type=kind)
        put('placement', region=cloud.region, endpoint_type=cloud.interface)

    def write_services(self):
        cloud, info, options, put = self.cloud, self.info, self.options, self.put
        top = lambda key: 'latest' if options.microversions == 'latest' else (info.get(key) or 'latest')
        public = info.get('public') or {}
        put('image', build_timeout=options.build_timeout)
        put('compute', image_ref=info.get('image') or NOTHING, image_ref_alt=info.get('image_alt') or NOTHING.replace('0', '1'),
            flavor_ref=info.get('flavor') or 'missing-flavor', flavor_ref_alt=info.get('flavor_alt') or 'missing-flavor-alt',
            build_timeout=options.build_timeout, min_compute_nodes=info.get('compute_nodes') or 1,
            min_microversion='2.1', max_microversion=top('compute_microversion'))
        put('volume', min_microversion='3.0', max_microversion=top('volume_microversion'),
            build_timeout=options.build_timeout, volume_type_multiattach=info.get('multiattach'))
        put('placement', min_microversion='1.0', max_microversion=top('placement_microversion'))
        put('network', public_network_id=public.get('id') or NOTHING, floating_network_name=public.get('name') or 'public',
            project_networks_reachable=False, build_timeout=options.build_timeout)
        put('validation', image_ssh_user=options.image_user, image_alt_ssh_user=options.image_user,
            image_ssh_password=options.image_password, image_alt_ssh_password=options.image_password,
            ssh_timeout=options.build_timeout, network_for_ssh='public', connect_method='floating')
        demo = info.get('demo') or {}
        put('heat_plugin', auth_url=cloud.auth_url, auth_version='3', region=cloud.region or 'RegionOne',
            endpoint_type=cloud.interface, user_domain_name=cloud.user_domain, project_domain_name=cloud.project_domain,
            username=demo.get('user') or 'qa-demo', password=demo.get('password') or 'none',
            project_name=demo.get('project') or 'qa-demo', admin_username=cloud.user, admin_password=cloud.password,
            admin_project_name=cloud.project, instance_type='m1.micro', minimal_instance_type='m1.nano',
            image_ref='qa-tempest-image', minimal_image_ref='qa-tempest-image', fixed_network_name='heat-net',
            fixed_subnet_name='heat-subnet', network_for_ssh='heat-net',
            floating_network_name=public.get('name') or 'public', build_timeout=options.build_timeout)

    def write_features(self, folder):
        info, options, put = self.info, self.options, self.put
        claimed = lambda key: ','.join(info[key]) if options.extensions == 'discover' and info.get(key) else 'all'
        put('network-feature-enabled', api_extensions=claimed('network_extensions'))
        put('volume-feature-enabled', api_extensions=claimed('volume_extensions'))
        put('object-storage-feature-enabled', discoverable_apis=claimed('swift_info'))
        put('object-storage', operator_role='member', reseller_admin_role='ResellerAdmin')
        put('scenario', img_disk_format='qcow2',
            img_file=os.path.abspath(options.image) if options.image else folder + '/missing.img')
        # A service counts as available if the catalog has it. Without any catalog everything is declared available,
        # so that the tests fail instead of being skipped.
        there = lambda service: self.has(service) if self.cloud.ok else True
        put('service_available', nova=there('compute'), neutron=there('network'), glance=there('image'),
            cinder=there('volume'), swift=there('object-store'), heat=there('orchestration'), aodh=there('alarming'),
            gnocchi=there('metric'), ceilometer=there('metering') or there('metric'), sg_core=False, horizon=False,
            barbican=False, designate=False)
        put('neutron_plugin_options', default_image_is_advanced=False)
