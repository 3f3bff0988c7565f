//! Every refusal of the network service by the name that clients match on.

api::faults! {
    /// Why a call may be refused. Variants are named after upstream's exceptions, which stand in `type`.
    pub enum Fault {
        BadRequest(resource: &'static str, msg: String) = 400 "BadRequest" "Bad {resource} request: {msg}.",
        InvalidInput(error_message: String) = 400 "InvalidInput" "Invalid input for operation: {error_message}.",
        NetworkNotFound(net_id: String) = 404 "NetworkNotFound" "Network {net_id} could not be found.",
        SubnetNotFound(subnet_id: String) = 404 "SubnetNotFound" "Subnet {subnet_id} could not be found.",
        PortNotFound(port_id: String) = 404 "PortNotFound" "Port {port_id} could not be found.",
        RouterNotFound(router_id: String) = 404 "RouterNotFound" "Router {router_id} could not be found",
        FloatingIpNotFound(id: String) = 404 "FloatingIPNotFound" "Floating IP {id} could not be found",
        SecurityGroupNotFound(id: String) = 404 "SecurityGroupNotFound" "Security group {id} does not exist",
        SecurityGroupRuleNotFound(id: String) = 404 "SecurityGroupRuleNotFound" "Security group rule {id} does not exist",
        SubnetPoolNotFound(id: String) = 404 "SubnetPoolNotFound" "Subnet pool {id} could not be found.",
        AddressScopeNotFound(id: String) = 404 "AddressScopeNotFound" "Address scope {id} could not be found.",
        RbacPolicyNotFound(id: String) = 404 "RbacPolicyNotFound" "RBAC policy of type  with ID {id} not found",
        AgentNotFound(id: String) = 404 "AgentNotFound" "Agent {id} could not be found.",
        SegmentNotFound(id: String) = 404 "SegmentNotFound" "Segment {id} could not be found.",
        AvailabilityZoneNotFound(zone: String) = 404 "AvailabilityZoneNotFound" "AvailabilityZone {zone} could not be found.",
        TagResourceNotFound(resource: String, id: String) = 404 "TagResourceNotFound" "Resource {resource} {id} could not be found.",
        TagNotFound(tag: String) = 404 "TagNotFound" "Tag {tag} could not be found.",

        NetworkInUse(net_id: String, reason: String) = 409 "NetworkInUse" "Unable to complete operation on network {net_id}. {reason}.",
        SubnetInUse(subnet_id: String, reason: String) = 409 "SubnetInUse" "Unable to complete operation on subnet {subnet_id}: {reason}.",
        PortInUse(port_id: String, net_id: String, device_id: String) = 409 "PortInUse"
            "Unable to complete operation on port {port_id} for network {net_id}. Port already has an attached device {device_id}.",
        ServicePortInUse(port_id: String, reason: String) = 409 "ServicePortInUse" "Port {port_id} cannot be deleted directly via the port API: {reason}.",
        PortBound(port_id: String, vif_type: String, old_mac: String, new_mac: String) = 409 "PortBound"
            "Unable to complete operation on port {port_id}, port is already bound, port type: {vif_type}, old_mac {old_mac}, new_mac {new_mac}.",
        MacAddressInUse(net_id: String, mac: String) = 409 "MacAddressInUse"
            "Unable to complete operation for network {net_id}. The mac address {mac} is in use.",
        MacAddressesExhausted(net_id: String) = 503 "NetworkMacAddressGenerationFailure" "Unable to generate unique mac on network {net_id}.",
        InvalidIpForNetwork(ip_address: String) = 400 "InvalidIpForNetwork"
            "IP address {ip_address} is not a valid IP for any of the subnets on the specified network.",
        InvalidIpForSubnet(ip_address: String) = 400 "InvalidIpForSubnet" "IP address {ip_address} is not a valid IP for the specified subnet.",
        IpAddressAlreadyAllocated(ip: String, subnet_id: String) = 409 "IpAddressAlreadyAllocated" "IP address {ip} already allocated in subnet {subnet_id}",
        IpAddressGenerationFailure(net_id: String) = 409 "IpAddressGenerationFailure" "No more IP addresses available on network {net_id}.",
        ExternalIpAddressExhausted(net_id: String) = 400 "ExternalIpAddressExhausted" "Unable to find any IP address on external network {net_id}.",
        VlanIdInUse(vlan_id: i64, physical_network: String) = 409 "VlanIdInUse"
            "Unable to create the network. The VLAN {vlan_id} on physical network {physical_network} is in use.",
        TunnelIdInUse(tunnel_id: i64) = 409 "TunnelIdInUse" "Unable to create the network. The tunnel ID {tunnel_id} is in use.",
        FlatNetworkInUse(physical_network: String) = 409 "FlatNetworkInUse"
            "Unable to create the flat network. Physical network {physical_network} is in use.",
        NoNetworkAvailable() = 503 "NoNetworkAvailable" "Unable to create the network. No project network is available for allocation.",
        InvalidSharedSetting(network: String) = 409 "InvalidSharedSetting"
            "Unable to reconfigure sharing settings for network {network}. Multiple projects are using it.",
        ExternalNetworkInUse(net_id: String) = 409 "ExternalNetworkInUse"
            "External network {net_id} cannot be updated to be made non-external, since it has existing gateway ports.",
        RevisionNumberConstraintFailed(expected: i64, current: i64) = 412 "RevisionNumberConstraintFailed"
            "Constrained to {expected}, but current revision is {current}",
        OverQuota(overs: String) = 409 "OverQuota" "Quota exceeded for resources: ['{overs}'].",

        InvalidAllocationPool(pool: String) = 400 "InvalidAllocationPool" "The allocation pool {pool} is not valid.",
        OutOfBoundsAllocationPool(pool: String, subnet_cidr: String) = 400 "OutOfBoundsAllocationPool"
            "The allocation pool {pool} spans beyond the subnet cidr {subnet_cidr}.",
        OverlappingAllocationPools(pool_1: String, pool_2: String, subnet_cidr: String) = 409 "OverlappingAllocationPools"
            "Found overlapping allocation pools: {pool_1} {pool_2} for subnet {subnet_cidr}.",
        GatewayConflictWithAllocationPools(ip_address: String, pool: String) = 409 "GatewayConflictWithAllocationPools"
            "Gateway ip {ip_address} conflicts with allocation pool {pool}.",
        GatewayIpInUse(ip_address: String, port_id: String) = 409 "GatewayIpInUse"
            "Current gateway ip {ip_address} already in use by port {port_id}. Unable to update.",
        HostRoutesExhausted(subnet_id: String, quota: usize) = 400 "HostRoutesExhausted"
            "Unable to complete operation for {subnet_id}. The number of host routes exceeds the limit {quota}.",
        DnsNameServersExhausted(subnet_id: String, quota: usize) = 400 "DNSNameServersExhausted"
            "Unable to complete operation for {subnet_id}. The number of DNS nameservers exceeds the limit {quota}.",
        NetworkSubnetPoolAffinity() = 400 "NetworkSubnetPoolAffinityError" "Subnets hosted on the same network must be allocated from the same subnet pool.",
        SubnetAllocation(reason: String) = 500 "SubnetAllocationError" "Failed to allocate subnet: {reason}.",
        MinPrefix(prefixlen: i64, min_prefixlen: i64) = 400 "MinPrefixSubnetAllocationError"
            "Unable to allocate subnet with prefix length {prefixlen}, minimum allowed prefix is {min_prefixlen}.",
        MaxPrefix(prefixlen: i64, max_prefixlen: i64) = 400 "MaxPrefixSubnetAllocationError"
            "Unable to allocate subnet with prefix length {prefixlen}, maximum allowed prefix is {max_prefixlen}.",
        SubnetPoolQuotaExceeded() = 409 "SubnetPoolQuotaExceeded" "Per-project subnet pool prefix quota exceeded.",
        SubnetPoolDelete(reason: String) = 400 "SubnetPoolDeleteError" "Unable to delete subnet pool: {reason}.",
        EmptySubnetPoolPrefixList() = 400 "EmptySubnetPoolPrefixList" "Empty subnet pool prefix list.",
        PrefixVersionMismatch() = 400 "PrefixVersionMismatch" "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.",
        IllegalSubnetPoolPrefixBounds(prefix_type: &'static str, prefixlen: i64, base_prefix_type: &'static str, base_prefixlen: i64)
            = 400 "IllegalSubnetPoolPrefixBounds" "Illegal prefix bounds: {prefix_type}={prefixlen}, {base_prefix_type}={base_prefixlen}.",
        IllegalSubnetPoolPrefixUpdate(msg: String) = 400 "IllegalSubnetPoolPrefixUpdate" "Illegal update to prefixes: {msg}.",
        AddressScopePrefixConflict() = 409 "AddressScopePrefixConflict"
            "Failed to associate address scope: subnetpools within an address scope must have unique prefixes.",
        IllegalSubnetPoolAssociation(subnetpool_id: String, address_scope_id: String) = 400 "IllegalSubnetPoolAssociationToAddressScope"
            "Illegal subnetpool association: subnetpool {subnetpool_id} cannot be associated with address scope {address_scope_id}.",
        IllegalSubnetPoolIpVersion(subnetpool_id: String, address_scope_id: String, ip_version: i64)
            = 400 "IllegalSubnetPoolIpVersionAssociationToAddressScope"
            "Illegal subnetpool association: subnetpool {subnetpool_id} cannot associate with address scope {address_scope_id} because subnetpool ip_version is not {ip_version}.",
        AddressScopeInUse(id: String) = 409 "AddressScopeInUse"
            "Unable to complete operation on address scope {id}. There are one or more subnet pools in use on the address scope",
        AddressScopeUpdate(id: String, reason: String) = 400 "AddressScopeUpdateError" "Unable to update address scope {id} : {reason}",

        SecurityGroupInUse(id: String) = 409 "SecurityGroupInUse" "Security Group {id} in use.",
        SecurityGroupCannotRemoveDefault() = 409 "SecurityGroupCannotRemoveDefault" "Insufficient rights for removing default security group.",
        SecurityGroupCannotUpdateDefault() = 409 "SecurityGroupCannotUpdateDefault" "Updating default security group not allowed.",
        SecurityGroupDefaultAlreadyExists() = 409 "SecurityGroupDefaultAlreadyExists" "Default security group already exists.",
        SecurityGroupRuleExists(rule_id: String) = 409 "SecurityGroupRuleExists" "Security group rule already exists. Rule id is {rule_id}.",
        DuplicateRuleInPost() = 409 "DuplicateSecurityGroupRuleInPost" "Duplicate Security Group Rule in POST.",
        RulesOfSeveralGroups() = 400 "SecurityGroupNotSingleGroupRules" "Only allowed to update rules for one security profile at a time",
        InvalidPortRange() = 400 "SecurityGroupInvalidPortRange" "For TCP/UDP protocols, port_range_min must be <= port_range_max",
        InvalidProtocolForPort(protocol: String, valid: &'static str) = 400 "SecurityGroupInvalidProtocolForPort"
            "Ports cannot be specified for protocol {protocol}. Ports are only supported for {valid}.",
        InvalidPortValue(port: String) = 400 "SecurityGroupInvalidPortValue" "Invalid value for port {port}",
        InvalidIcmpValue(field: &'static str, attr: &'static str, value: i64) = 400 "SecurityGroupInvalidIcmpValue"
            "Invalid value for ICMP {field} ({attr}) {value}. It must be 0 to 255.",
        MissingIcmpType(value: i64) = 400 "SecurityGroupMissingIcmpType"
            "ICMP code (port-range-max) {value} is provided but ICMP type (port-range-min) is missing.",
        EthertypeConflict(ethertype: String, protocol: String) = 400 "SecurityGroupEthertypeConflictWithProtocol"
            "Invalid ethertype {ethertype} for protocol {protocol}.",
        MultipleRemotes() = 400 "SecurityGroupMultipleRemoteEntites"
            "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
        ProtocolRequired() = 400 "SecurityGroupProtocolRequiredWithPorts" "Must also specify protocol if port range is given.",
        RuleInvalidProtocol(protocol: String, values: String) = 400 "SecurityGroupRuleInvalidProtocol"
            "Security group rule protocol {protocol} not supported. Only protocol values {values} and integer representations [0 to 255] are supported.",
        RuleInvalidEtherType(ethertype: String) = 400 "SecurityGroupRuleInvalidEtherType"
            "Security group rule for ethertype '{ethertype}' not supported. Allowed values are ['IPv4', 'IPv6'].",
        RuleParameterConflict(ethertype: String, cidr: String) = 400 "SecurityGroupRuleParameterConflict"
            "Conflicting value ethertype {ethertype} for CIDR {cidr}",
        PortSecurityAndIpRequired() = 400 "PortSecurityAndIPRequiredForSecurityGroups"
            "Port security must be enabled and port must have an IP address in order to use security groups.",
        PortHasSecurityGroup() = 409 "PortSecurityPortHasSecurityGroup"
            "Port has security group associated. Cannot disable port security or IP address until security group is removed.",
        AddressPairAndPortSecurity() = 409 "AddressPairAndPortSecurityRequired"
            "Port Security must be enabled in order to have allowed address pairs on a port.",
        DuplicateAddressPair(pair: String) = 400 "DuplicateAddressPairInRequest" "Request contains duplicate address pair: {pair}",
        AddressPairsExhausted(quota: usize) = 400 "AllowedAddressPairExhausted" "The number of allowed address pair exceeds the maximum {quota}.",

        RouterInUse(router_id: String, reason: String) = 409 "RouterInUse" "Router {router_id} {reason}",
        RouterInterfaceNotFound(router_id: String, port_id: String) = 404 "RouterInterfaceNotFound"
            "Router {router_id} does not have an interface with id {port_id}",
        RouterInterfaceNotFoundForSubnet(router_id: String, subnet_id: String) = 404 "RouterInterfaceNotFoundForSubnet"
            "Router {router_id} has no interface on subnet {subnet_id}",
        RouterInterfaceInUseByFloatingIp(router_id: String, subnet_id: String) = 409 "RouterInterfaceInUseByFloatingIP"
            "Router interface for subnet {subnet_id} on router {router_id} cannot be deleted, as it is required by one or more floating IPs.",
        RouterInterfaceInUseByRoute(router_id: String, subnet_id: String) = 409 "RouterInterfaceInUseByRoute"
            "Router interface for subnet {subnet_id} on router {router_id} cannot be deleted, as it is required by one or more routes.",
        SubnetMismatchForPort(port_id: String, subnet_id: String) = 400 "SubnetMismatchForPort"
            "Subnet on port {port_id} does not match the requested subnet {subnet_id}.",
        GatewayInUseByFloatingIp(router_id: String, net_id: String) = 409 "RouterExternalGatewayInUseByFloatingIp"
            "Gateway cannot be updated for router {router_id}, since a gateway to external network {net_id} is required by one or more floating IPs.",
        InvalidRoutes(routes: String, reason: String) = 400 "InvalidRoutes" "Invalid format for routes: {routes}, {reason}",
        RoutesExhausted(router_id: String, quota: usize) = 400 "RoutesExhausted"
            "Unable to complete operation for {router_id}. The number of routes exceeds the maximum {quota}.",
        ExternalGatewayNotFound(subnet_id: String, external_network_id: String, port_id: String) = 404 "ExternalGatewayForFloatingIPNotFound"
            "External network {external_network_id} is not reachable from subnet {subnet_id}.  Therefore, cannot associate Port {port_id} with a Floating IP.",
        PortAlreadyAssociated(floating_ip_address: String, fip_id: String, port_id: String, fixed_ip: String, net_id: String)
            = 409 "FloatingIPPortAlreadyAssociated"
            "Cannot associate floating IP {floating_ip_address} ({fip_id}) with port {port_id} using fixed IP {fixed_ip}, as that fixed IP already has a floating IP on external network {net_id}.",
        RbacPolicyInUse(object_id: String, details: String) = 409 "RbacPolicyInUse"
            "RBAC policy on object {object_id} cannot be removed because other objects depend on it. Details: {details}",
        DuplicateRbacPolicy() = 409 "DuplicateRbacPolicy" "An RBAC policy already exists with those values.",
        RbacInvalidAction(action: String, object_type: String, valid: String) = 400 "InvalidInput"
            "Invalid input for operation: Invalid action '{action}' for object type '{object_type}'. Valid actions: {valid}.",
        QuotaMissingTenant() = 400 "QuotaMissingTenant" "Tenant-id was missing from quota request.",
        TenantQuotaNotFound(id: String) = 404 "TenantQuotaNotFound" "Quota for project {id} could not be found.",
    }
}

/// Upstream's `webob` refusals have the status as their type.
pub fn plain(message: impl Into<String>) -> api::Refusal {
    api::Refusal::new(400, "HTTPBadRequest", message)
}

/// A refusal of a whole request to one kind of resource.
pub fn bad(resource: &'static str, msg: impl Into<String>) -> Fault {
    Fault::BadRequest { resource, msg: msg.into() }
}

/// A value that cannot be worked with.
pub fn invalid(message: impl Into<String>) -> Fault {
    Fault::InvalidInput { error_message: message.into() }
}
